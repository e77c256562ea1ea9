from pages.parts.nav import PAGES
from pages.parts.page import page

with page(PAGES["new_project"].title, PAGES["new_project"].about):
    pass
