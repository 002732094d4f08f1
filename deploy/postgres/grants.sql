-- The roles around published tables, for the database "shop". Run as a superuser, or as the database's owner with
-- CREATEROLE; then give each role that logs in its password: ALTER ROLE lakehouse_publisher PASSWORD '...'.

-- Who publishes: makes its own tables, and needs no other right. It owns them, so that only it may write and alter them.
CREATE ROLE lakehouse_publisher LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO lakehouse_publisher;
GRANT USAGE, CREATE ON SCHEMA public TO lakehouse_publisher;

-- Who reads: whatever is published, also what comes later. Grant it to people and tools.
CREATE ROLE lakehouse_reader NOLOGIN;
GRANT CONNECT ON DATABASE shop TO lakehouse_reader;
GRANT USAGE ON SCHEMA public TO lakehouse_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE lakehouse_publisher IN SCHEMA public GRANT SELECT ON TABLES TO lakehouse_reader;

-- Who follows the log (Debezium, with plugin.name=pgoutput and publication.autocreate.mode=disabled): it may read, and
-- stream what a publication names. With wal_level = logical, and after the first `lakehouse publish`:
--     CREATE PUBLICATION lakehouse FOR TABLE resumo_diario, churn;      -- as the superuser
CREATE ROLE lakehouse_debezium LOGIN REPLICATION;
GRANT lakehouse_reader TO lakehouse_debezium;
