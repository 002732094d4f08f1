-- Prepares the database for the source connector. Run it once, after `lakehouse publish` has created the tables, as the
-- tables' owner with the right to create roles (or create the role first), with wal_level = logical on the server:
--
--     psql "$PG_URL" -f deploy/connect/postgres.sql
--
-- The password of the new role is that of the variable CDC_PASSWORD, which psql 14 or later reads by itself: as an argument,
-- every user of the machine could see it. The password of the role that runs this is best in ~/.pgpass.
--
-- The publication names its tables. A table that is dropped and created again would silently be missing from it;
-- therefore `lakehouse publish` never does that, but inserts, updates and deletes rows.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'lakehouse_cdc') THEN
        CREATE ROLE lakehouse_cdc LOGIN REPLICATION;
    END IF;
END
$$;
\if :{?password}
\else
\getenv cdc_password CDC_PASSWORD
\set password :'cdc_password'
\endif
ALTER ROLE lakehouse_cdc PASSWORD :password;
GRANT USAGE ON SCHEMA public TO lakehouse_cdc;
GRANT SELECT ON public.dadostesouroipca_gold, public.dadostesouropre_gold TO lakehouse_cdc;

-- A delete then contains the key only, and so does its line on S3: what is deleted because of a data subject is not sent
-- once more. A table whose key has NULLs has no primary key: it needs FULL, which `lakehouse publish` has set.
DO $$
DECLARE
    published regclass;
BEGIN
    FOREACH published IN ARRAY ARRAY['public.dadostesouroipca_gold', 'public.dadostesouropre_gold']::regclass[] LOOP
        IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = published AND contype = 'p') THEN
            EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', published);
        END IF;
    END LOOP;
END
$$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'lakehouse_gold') THEN
        CREATE PUBLICATION lakehouse_gold FOR TABLE public.dadostesouroipca_gold, public.dadostesouropre_gold;
    END IF;
END
$$;
