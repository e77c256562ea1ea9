from pages.parts.nav import PAGES
from pages.parts.page import page

with page(PAGES["home"].title, PAGES["home"].about):
    pass
