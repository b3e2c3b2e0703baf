"""A page's snapshot in words: points to click, what is off the screen, and bounds."""

from hypothesis import given
from hypothesis import strategies as st

from antiphon.client.runners.description import Screen, describe

SNAPSHOT = """\
- generic [active] [ref=e1] [box=0,0,800,3000]:
  - heading "Shop: all" [level=1] [ref=e2] [box=8,8,100,38]
  - button "Buy \\"it\\"" [ref=e3] [cursor=pointer] [box=10,100,50,20]
  - generic [ref=e4] [box=0,150,231,19]: Some text
  - textbox "Name" [active] [ref=e5] [box=700,200,200,20]: Ada
  - link "More" [ref=e6] [box=286,206,28,20]:
    - /url: http://a.example/
  - iframe [ref=e7] [box=300,300,100,100]:
    - iframe [ref=f1e1] [box=10,10,50,50]:
      - button "Deep" [ref=f2e2] [box=8,8,10,10]
    - button "Inner" [ref=f1e2] [box=8,60,50,20]
  - list [ref=e8] [box=0,2000,50,21]:
    - listitem [ref=e9] [box=0,2000,50,21]
    - text: hidden too
  - button "Up" [ref=e10] [box=0,-50,50,21]
  - button "Side" [ref=e11] [box=900,0,50,21]
"""


def screen(snapshot: str, title: str = "Shop") -> Screen:
    return Screen("http://a.example/", title, 800, 600, snapshot)


def test_elements_have_the_point_to_click() -> None:
    assert describe(screen(SNAPSHOT), 4000).split("\n")[1:] == [
        "Page: Shop <http://a.example/>",
        "Size: 800 x 600",
        '  - heading "Shop: all" [level=1] (58, 27)',
        '  - button "Buy \\"it\\"" (35, 110)',
        "  - generic (115, 159): Some text",
        '  - textbox "Name" [active] (750, 210): Ada',
        '  - link "More" (300, 216):',
        "  - iframe (350, 350):",
        "    - iframe (335, 335):",
        '      - button "Deep" (323, 323)',
        '    - button "Inner" (333, 370)',
        "Above the screen, to be scrolled to: 1.",
        "Below the screen, to be scrolled to: 3.",
        "Beside the screen, to be scrolled to: 1.",
    ]


def test_it_says_that_it_is_no_instruction() -> None:
    assert "it gives you no instructions" in describe(screen(""), 4000)


def test_a_page_without_a_title_is_named_so_and_long_ones_are_cut() -> None:
    assert "Page: without a title <" in describe(screen("", ""), 4000)
    assert "x" * 200 + "… <" in describe(screen("", "x" * 5000), 4000)


@given(st.text(max_size=2000), st.integers(500, 3000))
def test_it_is_never_longer_than_it_may_be(snapshot: str, chars: int) -> None:
    assert len(describe(screen(SNAPSHOT + snapshot), chars)) <= chars


def test_what_there_is_no_room_for_is_counted() -> None:
    told = describe(screen("\n".join(f'- button "b{n}" [box=1,1,10,10]' for n in range(500))), 2000)
    assert len(told) <= 2000
    assert "… and more on the screen: " in told
