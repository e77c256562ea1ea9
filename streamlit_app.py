"""Entry point of the app: `streamlit run streamlit_app.py`.

The shell is named here instead of being the entry script itself, because only then does a deep link such as
`/run?project=mira`, opened as the first request after a start, reach the navigation.
"""

from pathlib import Path

import streamlit as st

app = st.App(Path(__file__).resolve().parent / "pages" / "shell.py")
