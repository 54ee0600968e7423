from jaxsrl.report.html import Html, join, tag, text


def test_text_and_attributes_are_escaped():
    assert tag("p", "<b>&\"'", title='"><i>') == '<p title="&quot;&gt;&lt;i&gt;">&lt;b&gt;&amp;&quot;&#39;</p>'


def test_html_is_not_escaped_again():
    assert tag("p", tag("b", "x"), Html("&amp;")) == "<p><b>x</b>&amp;</p>"


def test_attributes_that_are_none_or_false_are_left_out():
    assert tag("input", type="radio", checked=True, id=None, disabled=False) == '<input type="radio" checked>'
    assert tag("label", "x", for_="a", class_="b", data_label=0) == '<label for="a" class="b" data-label="0">x</label>'


def test_what_utf8_or_html_cannot_hold_is_replaced():
    shown = text("a\ud800b\udfffc\x00d\x1be\x7ff\x85g")
    assert shown == "a\ufffdb\ufffdc\u2400d\u241be\u2421f\ufffdg"
    shown.encode("utf-8")
    assert text("line\n\ttab") == "line\n\ttab"


def test_characters_that_reorder_the_page_are_replaced():
    assert text("a\u202eb\u2066c") == "a\ufffdb\ufffdc"


def test_join_leaves_none_out():
    assert join("<", None, 3) == "&lt;3"
