"""One self-contained HTML page per run: curves, results, and rollouts beside the expert with matched blocks marked."""

from jaxsrl.report.page import write_report
from jaxsrl.report.read import ReportError

__all__ = ["ReportError", "write_report"]
