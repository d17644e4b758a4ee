/* lines.c: an iterator over the lines of a block, as the extension fastproc._native._lines.
 *
 * A list of all lines costs more than the loop over it, as every line needs new memory. Lines made one by one reuse the
 * memory of the line before, which is still in the processor's cache. The same in Python, for comparison and for
 * installations without this extension: Cut in _values/lines.py.
 *
 * This is the only file that uses Python, through the stable ABI of 3.11 (on a free-threaded build, which has no stable
 * ABI, through its own). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <string.h>

/* Threads without the GIL may share an iterator: each line goes to one of them. */
#ifdef Py_GIL_DISABLED
#define LOCKED(self, result, call)                                                                                     \
    do {                                                                                                               \
        Py_BEGIN_CRITICAL_SECTION(self);                                                                               \
        result = call;                                                                                                 \
        Py_END_CRITICAL_SECTION();                                                                                     \
    } while (0)
#else
#define LOCKED(self, result, call) result = call
#endif

/* Refers to bytes or str only, which refer to nothing: so no reference cycle can include it. */
struct cut {
    PyObject_HEAD PyObject *block; /* exactly bytes or str, which nobody can change */
    const char *data;              /* NULL: it is text */
    Py_ssize_t at;                 /* how much was returned */
    Py_ssize_t size;
    Py_UCS4 end;
    bool keep;
};

/* Returns the place of the first line end at or after `from`; the size if there is none; -1 with an exception. */
static Py_ssize_t find(const struct cut *cut, Py_ssize_t from)
{
    if (cut->data != NULL) {
        const char *found = memchr(cut->data + from, (int)cut->end, (size_t)(cut->size - from));
        return found == NULL ? cut->size : found - cut->data;
    }
    Py_ssize_t found = PyUnicode_FindChar(cut->block, cut->end, from, cut->size, 1);
    return found == -1 ? cut->size : found < 0 ? -1 : found;
}

static PyObject *part(const struct cut *cut, Py_ssize_t from, Py_ssize_t to)
{
    return cut->data != NULL ? PyBytes_FromStringAndSize(cut->data + from, to - from)
                             : PyUnicode_Substring(cut->block, from, to);
}

static PyObject *next_line(struct cut *cut)
{
    if (cut->at >= cut->size)
        return NULL;
    Py_ssize_t stop = find(cut, cut->at);
    if (stop < 0)
        return NULL;
    Py_ssize_t after = stop < cut->size ? stop + 1 : stop;
    PyObject *line = part(cut, cut->at, cut->keep ? after : stop);
    if (line != NULL)
        cut->at = after;
    return line;
}

static PyObject *take_rest(struct cut *cut)
{
    PyObject *rest = part(cut, cut->at, cut->size);
    if (rest != NULL)
        cut->at = cut->size;
    return rest;
}

static Py_ssize_t count(const struct cut *cut)
{
    Py_ssize_t number = 0;
    for (Py_ssize_t at = cut->at; at < cut->size; number++) {
        Py_ssize_t stop = find(cut, at);
        if (stop < 0)
            return -1;
        at = stop + 1;
    }
    return number;
}

static PyObject *cut_next(PyObject *self)
{
    PyObject *line;
    LOCKED(self, line, next_line((struct cut *)self));
    return line;
}

static PyObject *cut_rest(PyObject *self, PyObject *unused)
{
    PyObject *rest;
    (void)unused;
    LOCKED(self, rest, take_rest((struct cut *)self));
    return rest;
}

static PyObject *cut_length_hint(PyObject *self, PyObject *unused)
{
    Py_ssize_t number;
    (void)unused;
    LOCKED(self, number, count((struct cut *)self));
    return number < 0 ? NULL : PyLong_FromSsize_t(number);
}

static PyObject *cut_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"block", "end", "keep_ends", NULL};
    PyObject *block, *end;
    int keep = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|p:Cut", names, &block, &end, &keep))
        return NULL;
    char *data = NULL;
    Py_ssize_t size, length;
    Py_UCS4 last;
    if (PyBytes_CheckExact(block) && PyBytes_Check(end)) {
        char *first;
        if (PyBytes_AsStringAndSize(block, &data, &size) < 0 || PyBytes_AsStringAndSize(end, &first, &length) < 0)
            return NULL;
        last = (unsigned char)first[0]; /* empty bytes have a NUL there */
    } else if (PyUnicode_CheckExact(block) && PyUnicode_Check(end)) {
        size = PyUnicode_GetLength(block);
        length = PyUnicode_GetLength(end);
        if (size < 0 || length < 0)
            return NULL;
        last = length == 0 ? 0 : PyUnicode_ReadChar(end, 0);
    } else {
        PyErr_SetString(PyExc_TypeError, "block, end: must be both bytes or both str");
        return NULL;
    }
    if (length != 1) {
        PyErr_SetString(PyExc_ValueError, "end: must be one byte or character");
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct cut *cut = (struct cut *)alloc(type, 0);
    if (cut == NULL)
        return NULL;
    Py_INCREF(block);
    cut->block = block;
    cut->data = data;
    cut->at = 0;
    cut->size = size;
    cut->end = last;
    cut->keep = keep != 0;
    return (PyObject *)cut;
}

static void cut_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((struct cut *)self)->block);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type); /* an instance of a heap type holds a reference to the type */
}

static PyMethodDef cut_methods[] = {
    {"rest", cut_rest, METH_NOARGS, "Return the part of the block that no line was made of yet, and leave nothing."},
    {"__length_hint__", cut_length_hint, METH_NOARGS, "The number of lines that are left."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cut_slots[] = {
    {Py_tp_doc, "Cut(block, end, keep_ends=False)\n--\n\nThe lines of a block, one after the other."},
    {Py_tp_new, cut_new},
    {Py_tp_dealloc, cut_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, cut_next},
    {Py_tp_methods, cut_methods},
    {0, NULL},
};

static PyType_Spec cut_spec = {
    .name = "fastproc._native._lines.Cut",
    .basicsize = sizeof(struct cut),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cut_slots,
};

/* Every interpreter has its own type; there is no other state. */
static int fill(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &cut_spec, NULL);
    if (type == NULL)
        return -1;
    int r = PyModule_AddObjectRef(module, "Cut", type);
    Py_DECREF(type);
    return r;
}

/* Lets interpreters with their own GIL load this (3.12). The ABI of 3.11 has no names for it. */
#ifndef Py_mod_multiple_interpreters
#define Py_mod_multiple_interpreters 3
#define Py_MOD_PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#endif

#define SLOT_FREE 1

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, fill},
    {0, NULL}, /* SLOT_FREE */
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "fastproc._native._lines",
    .m_doc = "Lines of a block, by C.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__lines(void)
{
    if (Py_Version >= 0x030C0000)
        module_slots[SLOT_FREE] =
            (PyModuleDef_Slot){Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED};
    return PyModuleDef_Init(&module);
}
