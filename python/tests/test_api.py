"""The API's reference: all of it has one, with an example and each argument; the page is made of it."""

import re

import pytest

from . import api

WITHOUT_EXAMPLE = {
    "exception": "raised, not called; MFACError has one, and methods that raise one",
    "tuple": "what methods return, in whose examples they are",
    "Scalars": "what Run.scalars returns",
    "MFAC.add_param_group": "it always raises",
}


@pytest.mark.parametrize("e", api.entries(), ids=lambda e: f"{e.module}.{e.name}")
def test_a_public_name_has_its_reference(e: api.Entry) -> None:
    assert e.doc, "no docstring"
    for argument in e.arguments:  # in the text, or among the options that the class says for all of its methods
        assert re.search(rf"\b{argument}\b", e.doc) or re.search(rf"``{argument}``", e.around), f"nothing is said of {argument}"
    if e.kind not in WITHOUT_EXAMPLE and e.name not in WITHOUT_EXAMPLE:
        elsewhere = re.search(r"``(\w+)`` has an example", e.doc)
        name = e.name.rsplit(".", 1)[-1]
        where = [e.doc, e.around if f".{name}(" in e.around else ""]
        where += [o.doc for o in api.entries() if elsewhere and o.name.rsplit(".", 1)[-1] == elsewhere.group(1) and f"{name}(" in o.doc]
        assert any(">>>" in doc for doc in where), "no example, of its own, its class, or where it says"


def test_it_finds_what_there_is() -> None:
    names = {f"{e.module}.{e.name}" for e in api.entries()}
    assert {"mfac.Run.ihvp", "mfac.Client.url", "mfac.connect", "mfac.Unavailable", "mfac.torch.MFAC.step", "mfac.torch.prune"} <= names
    assert not any("._" in n for n in names)
    of_ihvp = next(e for e in api.entries() if e.name == "Run.ihvp")
    assert of_ihvp.arguments[0] == "v" and "progress" in of_ihvp.arguments and of_ihvp.signature.startswith("(v, *, damping=None")


def test_the_page_is_that_of_the_sources() -> None:
    assert api.PAGE.read_text(encoding="utf-8") == api.page(), "python3 python/tests/api.py --write makes it anew"
