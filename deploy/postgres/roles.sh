#!/bin/sh
# Runs once, by the image of PostgreSQL, when the database is made: who may do what in it.
#
#   velib          the engine: owns what it writes
#   velib_reader   may read all of that
#   velib_grafana  reads for Grafana, for a while each time, and cannot do anything else
#
# Passwords are files of the folder SECRETS, and do not appear on any command line.
set -eu
export SECRETS="${SECRETS:-/run/secrets}"

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set velib `cat "$SECRETS/velib_database_password"`
\set grafana `cat "$SECRETS/grafana_database_password"`

CREATE ROLE velib_reader;
CREATE ROLE velib LOGIN PASSWORD :'velib';
CREATE ROLE velib_grafana LOGIN PASSWORD :'grafana' IN ROLE velib_reader CONNECTION LIMIT 20;
ALTER ROLE velib_grafana SET default_transaction_read_only = on;
ALTER ROLE velib_grafana SET statement_timeout = '30s';

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CREATE, CONNECT, TEMPORARY ON DATABASE :"DBNAME" TO velib;
GRANT CONNECT ON DATABASE :"DBNAME" TO velib_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
SQL
