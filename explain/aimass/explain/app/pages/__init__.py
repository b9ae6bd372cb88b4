"""A module a page, each with `render(here)`: thin views that place what the library and the services say."""
