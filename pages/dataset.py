from pages.parts.nav import PAGES
from pages.parts.page import page

with page(PAGES["dataset"].title, PAGES["dataset"].about):
    pass
