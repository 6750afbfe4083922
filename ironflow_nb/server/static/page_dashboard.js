// The dashboard of the notebook as a page: the same module, with a model that asks the server.

import dashboard from "./dashboard.js";
import { get } from "./page_client.js";
import { make } from "./page_elements.js";
import { PageModel } from "./page_model.js";

/** What the dashboard takes for the model of a widget. A filter asks anew; a run is opened as a page of its own. */
class DashboardModel extends PageModel {
  constructor(app) {
    super();
    this.app = app;
    this.filter = { of: "", status: "", since: "7d", order: "newest" };
  }

  send({ do: what, run, of, status, since, order }) {
    if (what === "filter") {
      this.filter = { of, status, since, order };
      this.app.hurry();
    } else if (what === "open") {
      this.app.go(`#/runs/${run}`);
    }
  }
}

export function dashboardPage({ place, app }) {
  const model = new DashboardModel(app);
  const shown = make("div", "", place);
  let leave = null;
  const refresh = async () => {
    const asked = model.filter;
    const { status, ...others } = asked;
    const frame = await get(`dashboard?${new URLSearchParams(status ? asked : others)}`);
    if (asked !== model.filter) return; // another one was chosen meanwhile
    if (leave) return model.tell({ frame });
    model.set("frame", frame);
    dashboard.initialize({ model });
    leave = dashboard.render({ model, el: shown });
  };
  return { refresh, close: () => leave?.() };
}
