"""Licences of base models as the hub names them (its list of licence identifiers), taken over for what is made from them."""

from __future__ import annotations

from dataclasses import dataclass

from studio.errors import InputError


@dataclass(frozen=True)
class Licence:
    """id: the hub's identifier; name, link: for `other`, as its card asks for them."""

    id: str
    name: str = ""
    link: str = ""

    def fields(self) -> dict[str, str]:
        """The lines of the card's head."""
        return {"license": self.id} | (
            {"license_name": self.name, "license_link": self.link} if self.id == "other" else {}
        )

    @property
    def words(self) -> str:
        return self.name if self.id == "other" else self.id


_HUB = "https://huggingface.co"
# Words of the manifest's licence field, the more exact one first -> the hub's licence.
_KNOWN: tuple[tuple[str, Licence], ...] = (
    ("flux.1 dev", Licence("other", "flux-1-dev-non-commercial-license", f"{_HUB}/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md")),
    ("stability ai community", Licence("other", "stabilityai-ai-community", "https://stability.ai/community-license-agreement")),
    ("fair ai public", Licence("other", "fair-ai-public-license-1.0-sd", "https://freedevproject.org/faipl-1.0-sd/")),
    ("openrail++", Licence("openrail++")),
    ("creativeml openrail-m", Licence("creativeml-openrail-m")),
    ("apache-2.0", Licence("apache-2.0")),
)  # fmt: skip
OFFERED: tuple[str, ...] = (
    "creativeml-openrail-m", "openrail++", "apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
    "cc0-1.0", "unknown",
)  # fmt: skip
"""What a user can choose instead, when the base model's licence allows it."""


def of_base(words: str, source: str = "") -> Licence | None:
    """The licence to take over from a base model, by the words of the manifest; None when nobody knows it.

    source: where the base model lies on the hub ("owner/name, file"), for a licence without a page of its own.
    """
    told = words.lower()
    for start, licence in _KNOWN:
        if start in told:
            return licence
    repo = source.partition(",")[0].strip()
    if told and not told.startswith("unknown") and repo.count("/") == 1:
        return Licence("other", words.partition(";")[0].strip(), f"{_HUB}/{repo}")
    return None


def chosen(identifier: str) -> Licence:
    """A licence that the user named. Raises InputError for one that is not offered."""
    if identifier not in OFFERED:
        raise InputError(f"'{identifier}' is no licence that is offered here.", "The card needs a name that the hub knows.",
                         f"Use one of: {', '.join(OFFERED)}.")  # fmt: skip
    return Licence(identifier)
