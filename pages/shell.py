"""The shell around every page: the sidebar with the project, the steps and the mode; then the page itself."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from pages.parts import sidebar  # noqa: E402
from pages.parts.context import follow_address, workspace  # noqa: E402
from pages.parts.nav import PAGES  # noqa: E402
from pages.parts.page import caught  # noqa: E402
from pages.parts.reattached import follow_rented_runs, go_on_with_queue  # noqa: E402
from pages.parts.steps import forget_steps  # noqa: E402
from studio.dataset.folder import one_look  # noqa: E402

st.set_page_config(
    page_title="LoRA Studio",
    page_icon=str(ROOT / "pages" / "static" / "icon.png"),
    layout="wide",
    initial_sidebar_state="auto",
    menu_items={
        "Get help": None,
        "Report a bug": None,
        "About": "**LoRA Studio**: from a folder of pictures to a registered LoRA.",
    },
)
st.html(ROOT / "pages" / "static" / "app.css")
# Dialogs and popovers hang on the body, outside of the element on which Streamlit says whether it is dark.
st.html(f"<style>body {{ color-scheme: {'dark' if st.context.theme.type == 'dark' else 'light'}; }}</style>")
follow_address()
follow_rented_runs(workspace().root)
go_on_with_queue(workspace().root)
forget_steps()
page = st.navigation(
    [
        st.Page(p.file, title=p.title, icon=p.icon, help=p.about, url_path=p.name, default=p.name == "home")
        for p in PAGES.values()
        if p.file.is_file()
    ],
    position="hidden",
)
with one_look():
    with caught():
        sidebar.draw(page.title)
    page.run()
