-- What the source connector needs of the database, once, after `lakehouse publish` has made the tables. Run it as the
-- tables' owner, with the right to make roles (or have the role made first), and wal_level = logical on the server:
--
--     psql "$PG_URL" -v password="'...'" -f deploy/connect/postgres.sql
--
-- The publication names its tables: a table that is dropped and made anew would have left it, in silence. `lakehouse
-- publish` therefore never does that; it inserts, updates and deletes.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lakehouse_cdc') THEN
        CREATE ROLE lakehouse_cdc LOGIN REPLICATION;
    END IF;
END
$$;
ALTER ROLE lakehouse_cdc PASSWORD :password;
GRANT USAGE ON SCHEMA public TO lakehouse_cdc;
GRANT SELECT ON public.dadostesouroipca_gold, public.dadostesouropre_gold TO lakehouse_cdc;

-- With all of the row in a delete, its line on S3 has it, too.
ALTER TABLE public.dadostesouroipca_gold REPLICA IDENTITY FULL;
ALTER TABLE public.dadostesouropre_gold REPLICA IDENTITY FULL;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'lakehouse_gold') THEN
        CREATE PUBLICATION lakehouse_gold FOR TABLE public.dadostesouroipca_gold, public.dadostesouropre_gold;
    END IF;
END
$$;
