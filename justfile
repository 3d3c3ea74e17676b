# The front door. Bare `just` lists what it can do.
# Every command reads the `.env` file itself, and what is set in the environment wins over it.

set positional-arguments

just := quote(just_executable())
python := quote(justfile_directory() / ".venv/bin/python")
# uv installs in seconds; where it fails, at a proxy's certificate for instance, pip may know better.
uv := ".venv/bin/uv pip install --python .venv"
pip := ".venv/bin/python -m pip install --quiet --disable-pip-version-check"

pin := ".venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links"

_list:
    @{{ just }} --list --unsorted

# Start everything and run it until Ctrl-C
[group('run')]
[no-exit-message]
up: _ready
    @exec {{ python }} -m sensors up

# Show a file's journey, and the alert that a broken one causes
[group('run')]
[no-exit-message]
demo: _ready
    @exec {{ python }} -m sensors demo

# Drop a copy of FILE into an inbox
[group('files')]
[no-exit-message]
[no-cd]
drop FILE INBOX="metrics": _ready
    @exec {{ python }} -m sensors drop -- "$@"

# Show what would become of files, each by itself: --inbox NAME, --table T, --json, --out FOLDER
[group('files')]
[no-exit-message]
[no-cd]
check *ARGUMENTS: _ready
    @exec {{ python }} -P -m sensors check "$@"

# Show whether all is healthy and what became of the files (--watch, --json)
[group('files')]
[no-exit-message]
status *OPTIONS: _ready
    @exec {{ python }} -m sensors status "$@"

# List the latest arrivals, of all inboxes or of one (--limit N, --failed, --json)
[group('files')]
[no-exit-message]
history *OPTIONS: _ready
    @exec {{ python }} -m sensors history "$@"

# Show the whole journey of an ARRIVAL, by its id, the beginning of that, or a file's name (--json)
[group('files')]
[no-exit-message]
show *ARRIVAL: _ready
    @exec {{ python }} -m sensors show "$@"

# Announce ARRIVAL again
[group('files')]
[no-exit-message]
retry ARRIVAL: _ready
    @exec {{ python }} -m sensors retry -- "$@"

# Say that what was not loaded of ARRIVAL or FILE, or a RUN, is settled and needs attention no more (--all)
[group('files')]
[no-exit-message]
dismiss *WHAT: _ready
    @exec {{ python }} -m sensors dismiss "$@"

# Announce arrivals again: FILE, --since TIME, --failed; --reload replaces their rows
[group('files')]
[no-exit-message]
replay *OPTIONS: _ready
    @exec {{ python }} -m sensors replay "$@"

# Make a new ledger from the arrivals and what Prefect knows of them (--offline)
[group('files')]
[no-exit-message]
rebuild *OPTIONS: _ready
    @exec {{ python }} -m sensors rebuild "$@"

# Show which profile this is, what runs on this machine and what Prefect gets, secrets masked
[group('server')]
[no-exit-message]
profile: _ready
    @exec {{ python }} -m sensors profile

# Replace every password and token in .env by a generated one; a running stack restarts with them
[group('server')]
[no-exit-message]
rotate-credentials: _ready
    @exec {{ python }} -m sensors rotate-credentials

# Show the end of the services' logs, of all or of one (--follow, --lines N)
[group('server')]
[no-exit-message]
logs *OPTIONS: _ready
    @exec {{ python }} -m sensors logs "$@"

# Put the deployments of prefect.yaml on the running server
[group('server')]
[no-exit-message]
deploy: _ready
    @exec {{ python }} -m sensors client prefect --no-prompt deploy --all

# Show what `apply` would change, and what would be made of the files in the inboxes; exit status 2 for changes (--json)
[group('server')]
[no-exit-message]
plan *OPTIONS: _ready
    @{{ python }} -m sensors client automations plan "$@"; status=$?; \
        test $# -gt 0 || {{ python }} -m sensors preview; exit $status

# Put the automations and the notification blocks on the running server
[group('server')]
[no-exit-message]
apply *OPTIONS: _ready
    @exec {{ python }} -m sensors client automations apply "$@"

# Send one alert of each kind to where real ones would go
[group('server')]
[no-exit-message]
alert-test: _ready
    @exec {{ python }} -m sensors client automations alert-test

# Copy what a DuckDB warehouse holds, load keys included, into the PostgreSQL of WAREHOUSE_URL; once, however often
[group('server')]
[no-exit-message]
[no-cd]
move-warehouse *FILE: _ready
    @exec {{ python }} -m flows.migrate.run "$@"

# Run any `prefect` command against this stack's server
[group('server')]
[no-exit-message]
[no-cd]
prefect *ARGS: _ready
    @exec {{ python }} -m sensors client prefect "$@"

# Run the tests, or those that ARGS name
[group('development')]
test *ARGS: (_install "requirements-dev.txt")
    @exec {{ python }} -m pytest --numprocesses 2 --no-loadscope-reorder "$@"

# Run the tests that take minutes: every kind of alert is sent, and every process is killed
[group('development')]
test-long *ARGS: (_install "requirements-dev.txt")
    @exec {{ python }} -m pytest -m "long and not slow" --numprocesses 4 --no-loadscope-reorder "$@"

# Attack it for about an hour: a long torture, 60,000 files, 10,000 files at once, several servers, a suspension
[group('development')]
crashes *ARGS: (_install "requirements-dev.txt")
    @exec {{ python }} -m pytest -m "slow or long" -s "$@"

# Follow docs/scale.md in containers and under systemd, as root: apt install docker.io mmdebstrap slirp4netns
[group('development')]
test-containers *ARGS: (_install "requirements-dev.txt")
    @exec {{ python }} -m pytest tests/containers -m containers "$@"

# Measure everything, or the PARTs named: drop burst big stream sensor alert arrivals, next to stock Prefect (--help)
[group('development')]
[no-exit-message]
bench *ARGS: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.benchmarks "$@"

# Simulate a fleet of many inboxes and sensors: what each part would need, by the measured figures (--help)
[group('development')]
[no-exit-message]
simulate *OPTIONS: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.benchmarks.fleet_report "$@"

# Write docs/settings.md anew, from the models that read the settings
[group('development')]
docs: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.settings_reference

# Take the pictures of docs/page.md anew, of a real stack in a real Chromium
[group('development')]
screenshots: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.browser.screenshots

# Check style, the layers of the packages, and types
[group('development')]
lint: (_install "requirements-dev.txt")
    .venv/bin/ruff check
    .venv/bin/ruff format --check
    .venv/bin/lint-imports --no-logo --no-cache
    .venv/bin/pyright

# Look the pinned packages up in the OSV database of known vulnerabilities, over the network; exit status 1 for any
[group('development')]
[no-exit-message]
audit *OPTIONS: (_install "requirements-dev.txt")
    @{{ python }} -m pip_audit --strict --vulnerability-service osv --require-hashes --disable-pip -r requirements.txt "$@"

# Write a bill of materials (SBOM, CycloneDX) of what is installed to run the project
[group('development')]
[no-cd]
sbom FILE="sbom.json": (_install "requirements-dev.txt")
    @PYTHONPATH={{ quote(justfile_directory()) }} {{ python }} -m tests.supply_chain sbom "$@"

# Write docs/licences.md anew, from what the installed packages say
[group('development')]
licences: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.supply_chain licences

# Pin every package, direct and indirect, with its hashes; what is pinned stays (--upgrade, -P NAME)
[group('development')]
pin *OPTIONS: (_install "requirements-dev.txt")
    {{ pin }} pyproject.toml --group tools --group dev -o requirements-dev.txt "$@" >/dev/null
    {{ pin }} pyproject.toml --group tools -c requirements-dev.txt -o requirements.txt >/dev/null

# Pin the images of deploy/ by the digests that their registries have now; it needs docker with buildx
[group('development')]
pin-images: (_install "requirements-dev.txt")
    @exec {{ python }} -m tests.image_pins

# Install what the project needs into .venv, anew if it is there; the other commands do that by themselves
[group('development')]
setup:
    @rm -f .venv/*.txt.done
    @{{ just }} _install-now requirements.txt --reinstall --force-reinstall

_ready: (_install "requirements.txt")

# The stamp says for which requirements the installation was finished.
_install requirements:
    @test "$(cat {{ requirements }} pyproject.toml | cksum)" = "$(cat .venv/{{ requirements }}.done 2>/dev/null)" \
        || {{ just }} _install-now {{ requirements }}

# `anew_uv` and `anew_pip` have each of them put in place again what seems to be installed. The pins name all there is,
# and pip before 23.1 takes an extra of one of them for a package without a pin.
_install-now requirements anew_uv="" anew_pip="":
    @echo "installing the pinned packages of {{ requirements }} into .venv"
    @test -x .venv/bin/python || python3 -m venv .venv
    @.venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, .venv has "+sys.version.split()[0]+"; remove .venv and make it with a newer one")'
    @sed -n '/^uv==/,/[^\\]$/p' requirements.txt > .venv/uv.txt
    @{{ pip }} --require-hashes -r .venv/uv.txt
    @{{ uv }} --quiet {{ anew_uv }} --require-hashes -r {{ requirements }} \
        || {{ pip }} {{ anew_pip }} --no-deps --require-hashes -r {{ requirements }}
    @{{ uv }} --quiet --no-deps -e . || {{ pip }} --no-deps -e .
    @# uv lets every user lock it, and so keep us from installing.
    @chmod -f go-rwx .venv/.lock || true
    @cat {{ requirements }} pyproject.toml | cksum > .venv/{{ requirements }}.done
