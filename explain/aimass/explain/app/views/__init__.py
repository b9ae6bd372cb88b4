"""A module a page, each with `render(here)`: thin, they place what the library and the services say.

The folder is not called pages: Streamlit would take each module in it for a script of its own.
"""
