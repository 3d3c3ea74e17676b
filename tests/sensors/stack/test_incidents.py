"""What is told about services that die."""

from sensors.stack.services import Service
from sensors.stack.supervisor import Incident, Incidents

KILLED = "2026-11-24 09:00:00,000 WARN exited: sensor (terminated by SIGKILL; not expected)"
SPAWNED = "2026-11-24 09:00:01,000 INFO spawned: 'sensor' with pid 4711"
STARTED_WELL = (
    "2026-11-24 09:00:31,000 INFO success: sensor entered RUNNING state, "
    "process has stayed up for > than 30 seconds (startsecs)"
)
GAVE_UP = "2026-11-24 09:01:00,000 INFO gave up: sensor entered FATAL state, too many start retries too quickly"


def reported(*lines):
    incidents = Incidents()
    return [incident.message for line in lines if (incident := incidents.read(line))]


def test_the_first_start_is_no_incident():
    assert reported(SPAWNED, STARTED_WELL) == []


def test_a_restart_says_what_the_service_died_of_and_how_many_are_left():
    assert reported(SPAWNED, KILLED, SPAWNED, KILLED, SPAWNED) == [
        "sensor stopped (killed by SIGKILL); restarted, 1 of 5",
        "sensor stopped (killed by SIGKILL); restarted, 2 of 5",
    ]


def test_a_service_that_had_started_well_is_restarted_without_being_counted():
    assert reported(SPAWNED, KILLED, SPAWNED, STARTED_WELL, KILLED, SPAWNED, KILLED, SPAWNED) == [
        "sensor stopped (killed by SIGKILL); restarted, 1 of 5",
        "sensor stopped (killed by SIGKILL); restarted",
        "sensor stopped (killed by SIGKILL); restarted, 1 of 5",
    ]


def test_an_exit_status_is_reported_as_such():
    assert reported("WARN exited: worker (exit status 3; not expected)", "INFO spawned: 'worker' with pid 1") == [
        "worker stopped (exit status 3); restarted, 1 of 5"
    ]


def test_the_deaths_of_one_service_do_not_count_for_another():
    server_died = "WARN exited: server (exit status 1; not expected)"
    assert reported(KILLED, SPAWNED, server_died, "INFO spawned: 'server' with pid 1")[-1].endswith("1 of 5")


def test_giving_a_service_up_is_reported_with_the_reason():
    incidents = Incidents()
    incidents.read(KILLED)
    assert incidents.read(GAVE_UP) == Incident(
        Service.SENSOR, "sensor stopped (killed by SIGKILL) and is given up after 5 restarts", gave_up=True
    )


def test_lines_about_anything_else_show_nothing():
    assert reported("INFO supervisord started with pid 1", "WARN exited: stranger (exit status 1; expected)", "") == []


def test_of_several_processes_of_a_service_each_has_its_own_past():
    incidents = Incidents()
    for name in ("services-1", "services-2"):
        incidents.read(f"WARN exited: {name} (terminated by SIGKILL; not expected)")
    assert incidents.read("INFO spawned: 'services-2' with pid 7") == Incident(
        Service.SERVICES, "services-2 stopped (killed by SIGKILL); restarted, 1 of 5", number=2
    )
