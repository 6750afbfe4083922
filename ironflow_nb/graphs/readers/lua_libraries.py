"""The kinds of nodes of Lua flows whose work a library does here: HTML, documents, mail, models, cached values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ironflow_nb.graphs.readers.lua_step import TRUE, LuaStepOptions, NodeKeys, Reader, template_of

_OPENAI: Final = "https://api.openai.com/v1"


def _markdown_to_html(options: LuaStepOptions) -> NodeKeys:
    options.writes_keys({options.out("html"): options.step.id})
    return {"markdown": {"text": options.input(), "sanitize": bool(options.get("sanitize", False))}}


def _html_to_markdown(options: LuaStepOptions) -> NodeKeys:
    options.writes_keys({options.out("markdown"): options.step.id})
    return {"html": {"text": options.input(), "to": "markdown"}}


def _html_sanitize(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"text": options.input(), "to": "safe"}
    named = {"tags": "allowed_tags", "rel": "link_rel"}
    made |= {ours: options.get(theirs) for ours, theirs in named.items() if options.has(theirs)}
    if options.get("strip_comments", True) is False:
        made["comments"] = True
    options.writes_keys({options.out("sanitized_html"): options.step.id})
    return {"html": made}


def _extract_html(options: LuaStepOptions) -> NodeKeys:
    if options.has("path") or options.has("metadata_key"):
        raise ValueError(
            "the HTML is a value of the context here, and its metadata another node: html with to: metadata"
        )
    options.writes_keys({options.out("content"): options.step.id})
    return {"html": {"text": template_of(options.source()), "to": options.get("format", "text")}}


def _xml_parse(options: LuaStepOptions) -> NodeKeys:
    options.note("attributes are @name, and the text beside elements is #text")
    options.writes_keys({options.out("xml_data"): options.step.id})
    return {"parse": {"xml": options.input()}}


def _xml_stringify(options: LuaStepOptions) -> NodeKeys:
    made: NodeKeys = {"xml": template_of(options.source()), "root": str(options.get("root_tag", "root"))}
    if options.get("pretty"):
        made["indent"] = 2
    options.writes_keys({options.out("xml"): options.step.id})
    return {"format": made}


def _document(form: str, out: str) -> Reader:
    def read(options: LuaStepOptions) -> NodeKeys:
        if options.get("format", "text") != "text" or options.has("comments_key"):
            raise ValueError("a document becomes text here; the output of our node has its pages, blocks or cues, too")
        step = options.step.id
        options.writes_keys({options.out(out): f"{step}.text"})
        if form in {"srt", "vtt"}:
            options.writes_keys({str(options.get("cues_key", "cues")): f"{step}.cues"})
        if options.has("metadata_key"):
            options.writes_keys({str(options.get("metadata_key")): f"{step}.metadata"})
        if options.has("path"):
            return {"document": {"read": options.path("path"), "format": form}}
        return {"document": {"content": template_of(options.source()), "format": form}}

    return read


def _extract_xlsx(options: LuaStepOptions) -> NodeKeys:
    step, out = options.step.id, options.out("content")
    made: NodeKeys = (
        {"read": options.path("path")} if options.has("path") else {"content": template_of(options.source())}
    )
    made |= {"sheet": options.text("sheet")} if options.has("sheet") else {"sheets": "all"}
    if options.get("has_header", True) is False:
        made["header"] = False
    rows = f"{step}.rows" if "sheet" in made else f"{step}.sheets"
    options.writes_keys({out: rows, f"{out}_sheet_names": f"{step}.sheet_names"})
    return {"xlsx": made}


def _cache_get(options: LuaStepOptions) -> NodeKeys:
    _note_journal(options)
    step = options.step.id
    options.writes_keys({options.out("cached_value"): f"{step}.value", "cache_hit": f"{step}.is_hit"})
    return {"cache_get": options.text("key")}


def _cache_set(options: LuaStepOptions) -> NodeKeys:
    _note_journal(options)
    value = template_of(options.source()) if options.has("source_key") else options.text("value")
    ttl = {"ttl": options.get("ttl")} if options.has("ttl") else {}
    options.writes(cache_key=f"{options.step.id}.key", cache_stored=TRUE)
    options.loses("cache_size")
    return {"cache_set": {"key": options.text("key"), "value": value, **ttl}}


def _note_journal(options: LuaStepOptions) -> None:
    for name in ("backend", "cache_dir"):
        options.get(name)
    options.note("the value is kept in the journal, whatever the backend")


def _send_email(options: LuaStepOptions) -> NodeKeys:
    if options.get("provider", "resend") != "smtp":
        raise ValueError('a mail goes by a mail server here: provider = "smtp", smtp_server = "HOST"')
    server = f"{options.text('smtp_server')}:{options.get('smtp_port', 587)}"
    if "{{" not in server and "\0" not in server:
        options.flow.grant("servers", server)
    made: NodeKeys = {"server": server, "tls": options.get("smtp_tls", "starttls")}
    for ours, theirs in (("user", "smtp_username"), ("password", "smtp_password")):
        if options.has(theirs):
            made[ours] = options.text(theirs)
    for name in ("from", "to", "cc", "bcc", "reply_to", "subject", "text", "html"):
        if options.has(name):
            made[name] = options.text(name)
    out = options.out("email")
    options.writes_keys({f"{out}_success": TRUE, f"{out}_data": options.step.id})
    options.loses(f"{out}_status")
    options.get("timeout")
    return {"email": made}


def _slack_notification(options: LuaStepOptions) -> NodeKeys:
    url = options.text("webhook_url") if options.has("webhook_url") else options.flow.variable("SLACK_WEBHOOK")
    if url.startswith("http"):
        options.grant_host(url)
    else:
        options.flow.grant("http", "hooks.slack.com")
    made: NodeKeys = {"webhook_url": url}
    if options.has("text") or options.has("message"):
        made["text"] = options.text("text" if options.has("text") else "message")
    if options.get("payload"):
        made["payload"] = options.text("payload")
    out = options.out("slack")
    options.writes_keys({f"{out}_success": TRUE, f"{out}_data": options.step.id})
    options.loses(f"{out}_status")
    return {"slack": made, "timeout_s": options.get("timeout", 30)}


def _llm(options: LuaStepOptions) -> NodeKeys:
    if options.get("provider", "openai") != "openai" or options.get("mode", "chat") != "chat":
        raise ValueError("a model is asked by chat, as OpenAI does, here; base_url names another server that does so")
    url = str(options.text("base_url")) if options.has("base_url") else _OPENAI
    options.grant_host(url)
    made: NodeKeys = {"model": options.text("model"), "base_url": url}
    made["api_key"] = options.text("api_key") if options.has("api_key") else options.flow.variable("OPENAI_API_KEY")
    if options.has("messages_key"):
        made["messages"] = template_of(options.source("messages_key"))
    elif options.has("messages"):
        made["messages"] = options.text("messages")
    elif options.has("prompt"):
        made["prompt"] = options.text("prompt", is_text=True)
    else:
        made["prompt"] = template_of(options.context.strict(str(options.get("input_key", "prompt"))))
    system = next((options.text(name) for name in ("system_prompt", "system") if options.has(name)), None)
    made |= {} if system is None else {"system": system}
    for name in ("temperature", "max_tokens", "response_format", "tools", "tool_choice", "extra"):
        if options.has(name):
            made[name] = options.get(name)
    step, out = options.step.id, options.out("llm")
    options.writes_keys({f"{out}_text": f"{step}.text", f"{out}_model": f"{step}.model", f"{out}_success": TRUE})
    options.loses(f"{out}_raw", f"{out}_usage")
    return {"llm": made, "timeout_s": options.get("timeout", 30)}


LIBRARY_READERS: Final[Mapping[str, Reader]] = {
    "markdown_to_html": _markdown_to_html, "html_to_markdown": _html_to_markdown, "html_sanitize": _html_sanitize,
    "extract_html": _extract_html, "xml_parse": _xml_parse, "xml_stringify": _xml_stringify,
    "extract_pdf": _document("pdf", "content"), "extract_word": _document("docx", "content"),
    "extract_srt": _document("srt", "transcript"), "extract_vtt": _document("vtt", "transcript"),
    "extract_xlsx": _extract_xlsx, "cache_get": _cache_get, "cache_set": _cache_set, "send_email": _send_email,
    "slack_notification": _slack_notification, "llm": _llm,
}  # fmt: skip
"""The kinds that a library does the work of."""
