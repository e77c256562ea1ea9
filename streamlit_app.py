"""Entry point of the app: `streamlit run streamlit_app.py`.

The shell is named here instead of being the entry script itself, because only then does a deep link such as
`/run?project=mira`, opened as the first request after a start, reach the navigation. The routes serve pictures, small and large.
"""

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from pages.parts.cell_pictures import cell_routes  # noqa: E402
from pages.parts.previews import preview_routes  # noqa: E402
from pages.parts.thumbs import thumb_routes  # noqa: E402

app = st.App(ROOT / "pages" / "shell.py", routes=[*thumb_routes(), *preview_routes(), *cell_routes()])
