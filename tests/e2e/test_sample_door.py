"""The first door: the sample, from an empty workspace to the run page, without a word typed."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.user import User


def test_the_sample_leads_to_the_run_page(user: User) -> None:
    user.open("/")
    user.at("Teach a model something new")
    user.press("Try it with the sample")
    user.at("Dataset")
    user.sees("Nothing to mend")
    user.sees("20 of 20")
    user.shot("dataset")
    for step, title in (("2 Captions", "Captions"), ("3 Config", "Config"), ("4 Run", "Run")):
        user.page.locator(".st-key-step_bar").get_by_role("link", name=re.compile(step)).click()
        user.at(title)
        user.shot(title.lower())
    bar = user.page.locator(".st-key-step_bar")
    expect(bar).to_contain_text(re.compile("1 Dataset to check.*2 Captions to check.*3 Config to check"))
    expect(user.button("Check everything")).to_be_enabled()
