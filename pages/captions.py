from pages.parts.nav import PAGES
from pages.parts.page import page

with page(PAGES["captions"].title, PAGES["captions"].about):
    pass
