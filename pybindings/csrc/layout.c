/* Where the CPython headers put the fields that a greenlet switch moves.
 *
 * The build script compiles this file and reads the table below out of the object file; nothing here is
 * ever linked or run, so it works the same when compiling for another machine. A row is the name of a Rust
 * constant and its value. Build script and table must agree on the magic text and on the size of a row. */

#define Py_BUILD_CORE 1
#include <Python.h>

#if PY_MAJOR_VERSION != 3 || PY_MINOR_VERSION < 11 || PY_MINOR_VERSION > 15
#  error "these headers are not those of CPython 3.11 to 3.15"
#endif
#ifdef Py_GIL_DISABLED
#  error "free-threaded CPython is not supported yet"
#endif

#include <stddef.h>
#include <stdint.h>
#include "internal/pycore_frame.h"
#if PY_MINOR_VERSION >= 14
#  include "internal/pycore_interpframe_structs.h"
#  include "internal/pycore_pythonrun.h"
#  include "internal/pycore_tstate.h"
#endif

struct row {
    char name[40];
    uint64_t value;
};

struct table {
    char magic[16];
    struct row rows[48];
};

#define VALUE(name, value) {#name, (uint64_t)(value)}
#define FIELD(name, type, member) VALUE(name, offsetof(type, member))

const struct table rgevent_layout = {
    {'r', 'g', 'e', 'v', 'e', 'n', 't', ' ', 'l', 'a', 'y', 'o', 'u', 't', ' ', '1'},
    {
        VALUE(PY_MINOR, PY_MINOR_VERSION),

        /* Moved on every version. */
        FIELD(TS_CONTEXT, PyThreadState, context),
        FIELD(TS_CONTEXT_VER, PyThreadState, context_ver),
        FIELD(TS_EXC_INFO, PyThreadState, exc_info),
        FIELD(TS_EXC_STATE, PyThreadState, exc_state),
        FIELD(TS_CHUNK, PyThreadState, datastack_chunk),
        FIELD(TS_CHUNK_TOP, PyThreadState, datastack_top),
        FIELD(TS_CHUNK_LIMIT, PyThreadState, datastack_limit),

        /* Only looked at, to see at import that the table fits. */
        FIELD(TS_INTERP, PyThreadState, interp),
        FIELD(TS_ID, PyThreadState, id),
        FIELD(TS_THREAD_ID, PyThreadState, thread_id),
        FIELD(FRAME_OBJECT_FRAME, struct _frame, f_frame),

        /* For the report of a stack overflow, where no function may be called. */
        FIELD(FUNCTION_QUALNAME, PyFunctionObject, func_qualname),

        /* Shapes written out again in Rust. */
        VALUE(EXC_ITEM_SIZE, sizeof(_PyErr_StackItem)),
        FIELD(EXC_ITEM_VALUE, _PyErr_StackItem, exc_value),
        FIELD(EXC_ITEM_PREVIOUS, _PyErr_StackItem, previous_item),
        FIELD(CHUNK_PREVIOUS, _PyStackChunk, previous),
        FIELD(CHUNK_SIZE, _PyStackChunk, size),
        FIELD(CHUNK_USED, _PyStackChunk, top),
        FIELD(CHUNK_DATA, _PyStackChunk, data),

        FIELD(FRAME_PREVIOUS, struct _PyInterpreterFrame, previous),
        FIELD(FRAME_OBJECT, struct _PyInterpreterFrame, frame_obj),
        FIELD(FRAME_OWNER, struct _PyInterpreterFrame, owner),

#if PY_MINOR_VERSION == 11
        FIELD(TS_PY_REMAINING, PyThreadState, recursion_remaining),
        FIELD(TS_PY_LIMIT, PyThreadState, recursion_limit),
        FIELD(TS_HEADROOM, PyThreadState, recursion_headroom),
        FIELD(TS_TRASH_NESTING, PyThreadState, trash_delete_nesting),
        FIELD(CFRAME_USE_TRACING, _PyCFrame, use_tracing),
#else
        FIELD(TS_PY_REMAINING, PyThreadState, py_recursion_remaining),
        FIELD(TS_PY_LIMIT, PyThreadState, py_recursion_limit),
#endif

#if PY_MINOR_VERSION <= 12
        FIELD(TS_CFRAME, PyThreadState, cframe),
        FIELD(TS_ROOT_CFRAME, PyThreadState, root_cframe),
        VALUE(CFRAME_SIZE, sizeof(_PyCFrame)),
        FIELD(CFRAME_CURRENT_FRAME, _PyCFrame, current_frame),
        FIELD(CFRAME_PREVIOUS, _PyCFrame, previous),
#else
        FIELD(TS_CURRENT_FRAME, PyThreadState, current_frame),
#endif

#if PY_MINOR_VERSION == 12
        FIELD(TS_TRASH_NESTING, PyThreadState, trash.delete_nesting),
        VALUE(C_CALLS_MAX, C_RECURSION_LIMIT),
#elif PY_MINOR_VERSION == 13
        VALUE(C_CALLS_MAX, Py_C_RECURSION_LIMIT),
#endif
#if PY_MINOR_VERSION == 12 || PY_MINOR_VERSION == 13
        FIELD(TS_C_REMAINING, PyThreadState, c_recursion_remaining),
#endif

#if PY_MINOR_VERSION >= 14
        FIELD(TS_CURRENT_EXECUTOR, PyThreadState, current_executor),
        /* Where the limits of the C stack are in this release; they are looked for near it. */
        FIELD(C_STACK_NEAR, _PyThreadStateImpl, c_stack_top),
        VALUE(C_STACK_MARGIN, _PyOS_STACK_MARGIN_BYTES),
        /* What follows those limits. */
        FIELD(RUNNING_LOOP_NEAR, _PyThreadStateImpl, asyncio_running_loop),
        FIELD(RUNNING_TASK_NEAR, _PyThreadStateImpl, asyncio_running_task),
        FIELD(TASKS_HEAD_NEAR, _PyThreadStateImpl, asyncio_tasks_head),
#endif
#if PY_MINOR_VERSION >= 15
        FIELD(TS_BASE_FRAME, PyThreadState, base_frame),
        /* What a frame holds beside its value stack. */
        FIELD(FRAME_LOCALS, struct _PyInterpreterFrame, f_locals),
        FIELD(FRAME_FUNCTION, struct _PyInterpreterFrame, f_funcobj),
        FIELD(FRAME_EXECUTABLE, struct _PyInterpreterFrame, f_executable),
#endif
        {"", 0},
    },
};
