-- Creates the roles for published tables in the database "shop". Run it as a superuser, or as the database's owner with
-- CREATEROLE; then set the password of each login role: ALTER ROLE lakehouse_publisher PASSWORD '...'.

-- The publisher creates its own tables and needs no other right. As their owner, only it can write and alter them.
CREATE ROLE lakehouse_publisher LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO lakehouse_publisher;
GRANT USAGE, CREATE ON SCHEMA public TO lakehouse_publisher;

-- Readers: all published tables, including later ones. Grant this role to people and tools.
CREATE ROLE lakehouse_reader NOLOGIN;
GRANT CONNECT ON DATABASE shop TO lakehouse_reader;
GRANT USAGE ON SCHEMA public TO lakehouse_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE lakehouse_publisher IN SCHEMA public GRANT SELECT ON TABLES TO lakehouse_reader;

-- Debezium (with plugin.name=pgoutput and publication.autocreate.mode=disabled) reads the tables and streams those of a
-- publication. With wal_level = logical, and after the first `lakehouse publish`:
--     CREATE PUBLICATION lakehouse FOR TABLE resumo_diario, churn;      -- as the superuser
CREATE ROLE lakehouse_debezium LOGIN REPLICATION;
GRANT lakehouse_reader TO lakehouse_debezium;
