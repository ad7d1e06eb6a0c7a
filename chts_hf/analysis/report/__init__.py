"""One HTML page of a run: what it learned, what its network became, and what one sees."""

from chts_hf.analysis.report.data import RunData, read_run
from chts_hf.analysis.report.page import write_report

__all__ = ["RunData", "read_run", "write_report"]
