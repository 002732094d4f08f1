"""Connects this process to the JVM of an engine, and clears the remains of its commands in the JVM.

PySpark connects to a JVM that runs already as it does under spark-submit: by a port and a secret. Its `SparkContext`
then takes the context of that JVM (`gateway` and `jsc`). Each command gets a session of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.java_gateway import JavaObject
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

from lakehouse.spark.engine.files import Engine
from lakehouse.spark.engine.lease import leased_environment

_PING_SECONDS = 5.0
_GATEWAY_SERVER = "GATEWAY_SERVER"  # Py4J's name of the Java side of the connection


class UncleanEngine(Exception):
    """Something of the command still runs in the JVM."""


class EngineHangs(Exception):
    """The JVM does not answer, or is not the one of the engine."""


class Connection:
    """The connection of this process to the JVM of an engine.

    Attributes:
        spark: A session in that JVM.
    """

    def __init__(self, engine: Engine) -> None:
        """Connect to the JVM.

        Args:
            engine: The engine, which this process has leased.

        Raises:
            EngineHangs: The JVM does not answer.
        """
        _check_answer(engine)
        with _set_environment(leased_environment(engine)):
            gateway = launch_gateway()  # type: ignore[no-untyped-call]
        SparkContext._ensure_initialized(gateway=gateway)
        self._server = JavaObject(_GATEWAY_SERVER, gateway._gateway_client)
        # The JVM keeps every object that Python has referred to. A process that ends does not give its objects back.
        self._known_before = gateway.jvm.java.util.HashSet(self._java_objects().keySet())
        context = gateway.jvm.org.apache.spark.SparkContext.getOrCreate()
        java_context = gateway.jvm.org.apache.spark.api.java.JavaSparkContext.fromSparkContext(context)
        self.spark = _new_session(SparkContext(gateway=gateway, jsc=java_context))
        # A lake may have been deleted, or changed by others, since the last command read it.
        gateway.jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()

    def tidy(self) -> tuple[int, int]:
        """Clear the remains of the command in the JVM.

        Returns:
            The size of the heap after the last collection of garbage, and its maximum size.

        Raises:
            UncleanEngine: Something of the command still runs.
        """
        context = self.spark.sparkContext
        shared: Any = self.spark._jsparkSession.sharedState()
        if list(context.statusTracker().getActiveJobsIds()):
            raise UncleanEngine("a job runs")
        if not shared.activeStreamingQueries().isEmpty():
            raise UncleanEngine("a stream runs")
        shared.cacheManager().clearCache()
        for rows in context._jsc.getPersistentRDDs().values():
            rows.unpersist()
        heap = self._heap()
        self._java_objects().keySet().retainAll(self._known_before)
        return heap

    def _java_objects(self) -> Any:
        """Return the JVM's map of the objects that Python refers to."""
        return self._server.getGateway().getBindings()

    def _heap(self) -> tuple[int, int]:
        jvm: Any = self.spark.sparkContext._jvm
        management = jvm.java.lang.management
        used = 0
        for pool in management.ManagementFactory.getMemoryPoolMXBeans():
            after_collection = pool.getCollectionUsage()  # only pools of the heap have one
            used += after_collection.getUsed() if after_collection else 0
        return used, int(jvm.java.lang.Runtime.getRuntime().maxMemory())


def disconnect() -> None:
    """Make PySpark forget a connection that failed, so that this process can connect to, or start, another JVM."""
    SparkContext._gateway = SparkContext._jvm = SparkContext._active_spark_context = None
    SparkSession._instantiatedSession = None


def _new_session(context: SparkContext) -> SparkSession:
    """Return a session without the settings and temporary views of any other, which is the active one from now on."""
    java_class: Any = SparkSession._get_j_spark_session_class(context._jvm)
    default = java_class.getDefaultSession()  # that of the last command
    base = default.get() if default.isDefined() else java_class(context._jsc.sc(), {})
    return SparkSession(context, base.newSession())


def _check_answer(engine: Engine) -> None:
    """Raise if the JVM does not answer within seconds: it may be stopped, or out of memory."""
    parameters = JavaParameters(
        port=engine.port, auth_token=engine.secret, read_timeout=_PING_SECONDS, enable_memory_management=False
    )
    client = ClientServer(java_parameters=parameters, python_parameters=PythonParameters(port=0, eager_load=False))
    try:
        pid = client.jvm.java.lang.ProcessHandle.current().pid()
    except (Py4JError, OSError) as error:
        raise EngineHangs(str(error)) from error
    finally:
        client.close()
    if engine.jvm is None or pid != engine.jvm.pid:
        raise EngineHangs(f"process {pid} answers")


@contextmanager
def _set_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the time of a `with` block; later, they would look like those of spark-submit."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
