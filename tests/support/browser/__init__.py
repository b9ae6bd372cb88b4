"""Looking at a Streamlit app as people do: with Chromium."""
