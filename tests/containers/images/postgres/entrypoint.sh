#!/bin/sh
# Makes the database in an empty volume, with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB, and runs the scripts of
# /docker-entrypoint-initdb.d there before anybody else can connect.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp)
    printf '%s' "$POSTGRES_PASSWORD" > "$password"
    initdb --encoding=UTF8 --username="$POSTGRES_USER" --pwfile="$password" --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    rm "$password"
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait -o "-c listen_addresses=''" start
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    for script in /docker-entrypoint-initdb.d/*.sql; do
        psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --set=ON_ERROR_STOP=1 --file="$script"
    done
    pg_ctl --silent --wait stop
fi
exec "$@" -c listen_addresses='*'
