"""Pictures of flows: the model of a diagram, its layout, and its renderings as SVG, DOT, Mermaid and text."""
