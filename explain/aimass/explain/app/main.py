"""The script that Streamlit runs for each viewer."""

from aimass.explain.app.front import render

render()
