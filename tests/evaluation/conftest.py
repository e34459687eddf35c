"""What several tests of the evaluation share: a report, which takes seconds to draw."""

import pytest

from tests.evaluation.drawn_results import drawn


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Drawn results, and the page that was written of them."""
    pytest.importorskip("matplotlib")
    from deidcli.evaluation.report import write_report

    folder = tmp_path_factory.mktemp("report")
    results = drawn(folder)
    return results, write_report(results, folder / "out")
