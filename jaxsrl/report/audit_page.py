"""The page of one audit, beside its file of numbers."""

import os
from pathlib import Path

from jaxsrl.report.audits import HOW, audit, read_audit
from jaxsrl.report.html import tag
from jaxsrl.report.page import document
from jaxsrl.report.read import ReportError


def write_audit(path: Path) -> Path:
    """Writes the page of a kept audit (`NAME.json`) as `NAME.html`; the same files give the same bytes.

    Raises: ReportError where the file holds no audit; OSError where the page cannot be written.
    """
    complaints: list[str] = []
    found = read_audit(path, complaints)
    if found is None:
        raise ReportError("; ".join(complaints))
    policies = found[0]["policies"]
    title = f"{len(policies)} policies" if len(policies) > 1 else str(policies[0])
    head = tag("header", tag("p", "jaxsrl audit", class_="kicker"), tag("h1", title), class_="top")
    section = tag("section", tag("h2", "Audit"), tag("p", HOW, class_="how"), audit(*found), id="audit")
    page = path.with_suffix(".html")
    temporary = page.with_name(page.name + ".tmp")
    temporary.write_bytes(document(f"{title} – jaxsrl audit", head, [("audit", "Audit")], [section]).encode())
    os.replace(temporary, page)
    return page
