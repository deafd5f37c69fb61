"""The .pth file that teaches gunicorn the short name."""

import importlib.metadata

TABLE = "from gunicorn.workers import SUPPORTED_WORKERS as S; print(S.get('rgevent'))"
WORKER = "rgevent.gunicorn.Worker"


def test_name_is_in_the_table(run_python):
    assert run_python("-c", TABLE).stdout.strip() == WORKER


def test_isolated_mode_has_it_too(run_python):
    assert run_python("-I", "-c", TABLE).stdout.strip() == WORKER


def test_looking_for_the_module_does_not_disarm_it(run_python):
    look = "import importlib.util as u; assert u.find_spec('gunicorn.workers');"
    assert run_python("-c", look + TABLE).stdout.strip() == WORKER


def test_finder_leaves_when_its_work_is_done(run_python):
    done = run_python("-c", TABLE + "; import sys; print(sys.meta_path)")
    assert "WorkersFinder" not in done.stdout


def test_source_of_the_module_can_still_be_read(run_python):
    code = "import gunicorn.workers as w, inspect; print('SUPPORTED' in inspect.getsource(w))"
    assert run_python("-c", code).stdout.strip() == "True"


def test_environment_switches_it_off(run_python):
    assert run_python("-c", TABLE, env={"RGEVENT_NO_SITE": "1"}).stdout.strip() == "None"


def test_starting_python_loads_nothing_else(run_python):
    code = "import sys; print([m for m in sys.modules if 'gunicorn' in m or 'rgevent' in m])"
    assert run_python("-c", code).stdout.strip() == "['_rgevent_site']"


def test_wheel_lists_both_files():
    names = {str(path) for path in importlib.metadata.files("rgevent")}
    assert {"rgevent_gunicorn.pth", "_rgevent_site.py"} <= names
