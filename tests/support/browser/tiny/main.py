"""An app of two pages: one as all should be, and one with the faults that the harness is to find."""

import time

import altair as alt
import streamlit as st


def good() -> None:
    st.title("A good page")
    if st.session_state.setdefault("slow", False):
        time.sleep(0.5)  # the work of a page, which a viewer waits for
    rows = st.slider("Rows", 1, 50, 10, key="rows", bind="query-params")
    st.session_state["slow"] = st.checkbox("Slowly", key="slowly")
    values = [{"x": number, "y": number * number} for number in range(rows)]
    st.altair_chart(alt.Chart(alt.Data(values=values)).mark_bar().encode(x="x:Q", y="y:Q"), key="bars")
    st.markdown(f"{rows} rows")
    st.download_button(
        "Squares", "x,y\n" + "".join(f"{one['x']},{one['y']}\n" for one in values), file_name="squares.csv"
    )


def bad() -> None:
    st.title("A bad page")
    st.html('<img src="data:image/png;base64,iVBORw0KGgo="><p style="color:#ddd;background:#fff">Hardly to be seen</p>')
    st.html('<div style="width:3000px">Wider than any window</div>')
    st.error("It was not found.")
    raise ValueError("what nobody foresaw")


st.navigation([st.Page(good, url_path="good", default=True), st.Page(bad, url_path="bad")]).run()
