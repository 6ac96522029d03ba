"""The throw-away cluster of the tests and benchmarks."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connections

from config.environment import postgresql as database_at
from config.launch.postgresql import USER, Cluster
from config.launch.processes import LaunchError
from config.postgresql_backend.base import DatabaseWrapper


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


@pytest.mark.django_db
def test_a_connection_that_the_server_ended_is_found_without_asking() -> None:
    cluster = Cluster()
    try:
        cluster.start()
        cluster.create_database("birds")
        settings = {**connections["default"].settings_dict, **database_at(cluster.url("birds"))}
        wrapper = DatabaseWrapper(settings, "birds")
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT 1")
        assert wrapper.is_usable()
        cluster.restart()
        assert not wrapper.is_usable()
        wrapper.close()
        assert not wrapper.is_usable()
    finally:
        cluster.remove()
