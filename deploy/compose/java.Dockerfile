# Kafka, Kafka Connect with both connectors, and s3proxy: from Maven, in the versions of deploy/connect and of the tests.
FROM maven:3.9.9-eclipse-temurin-17 AS jars
WORKDIR /build
COPY tests/servers/s3proxy-pom.xml s3proxy/pom.xml
RUN mvn -q -B -f s3proxy/pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory=/build/s3
COPY deploy/connect connect
RUN mvn -q -B -f connect/pom.xml package -DskipTests
COPY tests/servers/s3proxy.sha256 s3proxy/
# Every jar is on a list, and no other one is there; but the sink is built here.
RUN cd s3 && sha256sum --check --strict --quiet ../s3proxy/s3proxy.sha256 && \
    test "$(find . -name '*.jar' | wc -l)" -eq "$(wc -l < ../s3proxy/s3proxy.sha256)"
RUN cd connect/target && sha256sum --check --strict --quiet ../jars.sha256 && \
    test "$(find . -name '*.jar' ! -path ./plugins/s3-json-sink/s3-json-sink-1.jar | wc -l)" -eq "$(wc -l < ../jars.sha256)"

FROM eclipse-temurin:17.0.15_6-jre
RUN useradd --system --create-home lakehouse && install -d -o lakehouse /data
COPY --from=jars /build/connect/target/worker /opt/kafka/worker
COPY --from=jars /build/connect/target/plugins /opt/kafka/plugins
COPY --from=jars /build/s3 /opt/s3
COPY --chmod=755 deploy/compose/start/kafka.sh deploy/compose/start/connect.sh deploy/compose/start/s3.sh \
    deploy/compose/start/healthy.sh /usr/local/bin/
COPY deploy/connect/broker.properties deploy/connect/worker.properties deploy/connect/log4j2.xml \
    deploy/compose/start/logback.xml /etc/lakehouse/
USER lakehouse
VOLUME /data
