"""The explainer as an app in a browser: a page a question over library and services, and nothing of its own."""
