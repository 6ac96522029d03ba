"""The throw-away cluster of the tests and benchmarks."""

from __future__ import annotations

import psycopg
import pytest

from config.launch.postgresql import USER, Cluster
from config.launch.processes import LaunchError


def test_a_cluster_loses_nothing_when_killed_and_is_removed() -> None:
    cluster = Cluster()
    try:
        cluster.start()
        cluster.create_database("birds")
        with psycopg.connect(f"host={cluster.folder} user={USER} dbname=birds") as connection:
            connection.execute("CREATE TABLE wren (n int)")
            connection.execute("INSERT INTO wren VALUES (7)")
        cluster.kill()
        cluster.start()
        with psycopg.connect(f"host={cluster.folder} user={USER} dbname=birds") as connection:
            assert connection.execute("SELECT n FROM wren").fetchall() == [(7,)]
        with pytest.raises(LaunchError, match=r'createdb failed: .*database "birds" already exists'):
            cluster.create_database("birds")
    finally:
        cluster.remove()
    assert not cluster.folder.exists()
    assert cluster.service is not None
    assert not cluster.service.is_alive
