/* As much of CUDA's driver as yolotrt and the packages it uses call, in the memory of the host.

   Work that is queued is done when somebody waits for it, not before: a result that is read too early, or memory that is
   used again too early, shows. Streams are one queue in the order of the calls, which is one of the orders that a GPU may
   take. Kernels and host functions are run by the test: see `host_set_launcher`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef int Result;
typedef uint64_t Address;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
       INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900,
       CAPTURE_INVALIDATED = 901 };
enum { LARGEST_ARGUMENTS = 320, MEMORIES = 4096, WHOLE = 1 << 21 };

/* What a test sets and reads. */
typedef void (*Launcher)(const char *kernel, const unsigned *grid, const unsigned *block, const void *arguments);
static Launcher launcher;
static int version = 13000, loads;
static const size_t all_memory = 3ull << 29; /* of the GPU; pinned memory has as much */
static char primary, foreign;
void host_set_launcher(Launcher given) { launcher = given; }
void host_set_version(int given) { version = given; }
void *host_primary_context(void) { return &primary; }
void *host_foreign_context(void) { return &foreign; }
int host_loads(void) { return loads; }

static __thread void *current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Memory. */
typedef struct { Address start; size_t size; int pinned, file, is_adopted; } Memory;
static Memory memories[MEMORIES];
static int open_objects;
int host_open(void) { return open_objects; }

static Memory *memory_of(Address address) {
    for (int i = 0; i < MEMORIES; i++)
        if (memories[i].size && address >= memories[i].start && address < memories[i].start + memories[i].size)
            return &memories[i];
    return NULL;
}

static size_t left(int pinned) {
    size_t found = all_memory;
    for (int i = 0; i < MEMORIES; i++) found -= memories[i].pinned == pinned ? memories[i].size : 0;
    return found;
}

static Address keep(Memory made) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MEMORIES; i++)
        if (!memories[i].size) { memories[i] = made; break; }
    open_objects++;
    pthread_mutex_unlock(&lock);
    return made.start;
}

static void *mapped(int file, size_t size) {
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return found == MAP_FAILED ? NULL : found;
}

static int spoils(void);
static Result allocate(Address *out, size_t size, int pinned) {
    if (!current) return INVALID_CONTEXT;
    if (spoils()) return CAPTURE_UNSUPPORTED;
    if (size > left(pinned)) return OUT_OF_MEMORY;
    if (!size) return INVALID_VALUE;
    void *made = NULL;
    int file = -1;
    if (!pinned && size % WHOLE == 0) { /* other processes may ask for it */
        file = memfd_create("memory", 0);
        if (file >= 0 && !ftruncate(file, size)) made = mapped(file, size);
    } else if (posix_memalign(&made, 256, size)) made = NULL;
    if (!made) return INVALID_VALUE;
    memset(made, 0xAA, size);
    *out = keep((Memory){(Address)made, size, pinned, file, 0});
    return OK;
}

/* What is queued: executed in order by whoever waits. */
typedef struct Step {
    int kind; /* 0 copy, 1 set, 2 kernel, 3 host function, 4 a recording, 5 free */
    Address to, from;
    size_t size, to_pitch, from_pitch, rows;
    int value;
    const char *kernel;
    unsigned grid[3], block[3];
    char arguments[LARGEST_ARGUMENTS];
    void (*function)(void *);
    void *data;
    struct Steps *recording;
    void *staged; /* a copy of memory that is not pinned, taken when it was queued */
} Step;
typedef struct Steps { Step *items; size_t count, room; } Steps;
static Steps queued;
static __thread Steps *captured;
static __thread void *captured_stream;
static __thread int is_spoiled;

/* What waits for the GPU is refused to a thread that records, and ends its recording (CU_STREAM_CAPTURE_MODE_THREAD_LOCAL). */
static int spoils(void) { return captured && (is_spoiled = 1); }

static void append(Steps *steps, const Step *step) {
    if (steps->count == steps->room) {
        steps->room = steps->room ? 2 * steps->room : 64;
        steps->items = realloc(steps->items, steps->room * sizeof(Step));
    }
    steps->items[steps->count++] = *step;
}

static void free_now(Address address);
static void run(const Steps *steps);
static void run_step(const Step *s) {
    const char *from = s->staged ? s->staged : (const char *)s->from;
    if (s->kind == 0)
        for (size_t y = 0; y < s->rows; y++)
            memmove((char *)s->to + y * s->to_pitch, from + y * s->from_pitch, s->size);
    else if (s->kind == 1) memset((void *)s->to, s->value, s->size);
    else if (s->kind == 2) launcher(s->kernel, s->grid, s->block, s->arguments);
    else if (s->kind == 3) s->function(s->data);
    else if (s->kind == 4) run(s->recording);
    else free_now(s->to);
    free(s->staged);
}
static void run(const Steps *steps) { for (size_t i = 0; i < steps->count; i++) run_step(&steps->items[i]); }

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;
static __thread int is_running; /* kernels are Python, whose garbage collector may free memory in the midst of one */
static void flush(void) {
    if (is_running) return;
    pthread_mutex_lock(&running); /* whoever waits, waits for what another one runs */
    pthread_mutex_lock(&lock);
    Steps taken = queued;
    queued = (Steps){0};
    pthread_mutex_unlock(&lock);
    is_running = 1;
    run(&taken);
    is_running = 0;
    free(taken.items);
    pthread_mutex_unlock(&running);
}

static Result queue(void *stream, Step step) {
    if (!stream) return INVALID_HANDLE; /* the default stream would wait for the work of others */
    if (captured && captured_stream == stream) { append(captured, &step); return OK; }
    pthread_mutex_lock(&lock);
    append(&queued, &step);
    pthread_mutex_unlock(&lock);
    return OK;
}

static Result copy(void *stream, Step step) {
    Memory *from = memory_of(step.from), *to = memory_of(step.to);
    int capturing = captured && captured_stream == stream;
    if (!from && !to) return INVALID_VALUE;
    if ((!from || !to) && capturing) return INVALID_VALUE; /* memory that may move is not recorded */
    if (!from) { /* the driver copies memory that is not pinned before it returns */
        size_t size = (step.rows - 1) * step.from_pitch + step.size;
        step.staged = malloc(size);
        memcpy(step.staged, (void *)step.from, size);
    }
    Result code = queue(stream, step);
    if (!to) flush();
    return code;
}

Result cuMemAlloc_v2(Address *out, size_t size) { return allocate(out, size, 0); }
Result cuMemAllocAsync(Address *out, size_t size, void *stream) { return allocate(out, size, 0); }
Result cuMemAllocFromPoolAsync(Address *out, size_t size, void *pool, void *stream) { return allocate(out, size, 0); }
Result cuMemHostAlloc(void **out, size_t size, unsigned flags) { return allocate((Address *)out, size, 1); }
Result cuMemAllocHost_v2(void **out, size_t size) { return allocate((Address *)out, size, 1); }
static Result release(Address address, int pinned) {
    Memory *found = memory_of(address);
    if (!current) return INVALID_CONTEXT;
    if (!found || found->start != address || found->pinned != pinned) return INVALID_VALUE;
    if (found->is_adopted) return INVALID_VALUE;
    if (spoils()) return CAPTURE_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    append(&queued, &(Step){.kind = 5, .to = address}); /* after all else: freeing waits for the GPU */
    pthread_mutex_unlock(&lock);
    flush();
    return OK;
}
static void free_now(Address address) {
    Memory *found = memory_of(address);
    if (found->file >= 0) { munmap((void *)address, found->size); close(found->file); }
    else free((void *)address);
    pthread_mutex_lock(&lock);
    found->size = 0;
    open_objects--;
    pthread_mutex_unlock(&lock);
}
Result cuMemFree_v2(Address address) { return release(address, 0); }
Result cuMemFreeAsync(Address address, void *stream) { return release(address, 0); }
Result cuMemFreeHost(void *address) { return release((Address)address, 1); }

/* Memory of another process, by the file that it is. */
static int is_refused(const char *what) { /* as where containers or the system keep processes apart */
    const char *refused = getenv("HOST_CUDA_REFUSES");
    return refused && !strcmp(refused, what);
}
typedef struct { char bytes[64]; } Name;
typedef struct { int process, file; size_t size; } Told;
Result cuIpcGetMemHandle(Name *out, Address address) {
    Memory *found = memory_of(address);
    if (is_refused("export")) return NOT_SUPPORTED;
    if (!found || found->file < 0 || found->start != address) return INVALID_VALUE;
    Told told = {getpid(), found->file, found->size};
    memcpy(out, &told, sizeof told);
    return OK;
}
Result cuIpcOpenMemHandle_v2(Address *out, Name name, unsigned flags) {
    Told told;
    memcpy(&told, &name, sizeof told);
    if (is_refused("adopt")) return NOT_SUPPORTED;
    if (!current) return INVALID_CONTEXT;
    if (told.process == getpid() || flags != 1) return INVALID_CONTEXT; /* as CUDA says of its own process */
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", told.process, told.file);
    int file = open(path, O_RDWR);
    void *made = file < 0 ? NULL : mapped(file, told.size);
    if (!made) return INVALID_VALUE;
    *out = keep((Memory){(Address)made, told.size, 0, file, 1});
    return OK;
}
Result cuIpcCloseMemHandle(Address address) {
    Memory *found = memory_of(address);
    if (!found || found->start != address || !found->is_adopted) return INVALID_VALUE;
    flush();
    munmap((void *)address, found->size);
    close(found->file);
    pthread_mutex_lock(&lock);
    found->size = 0;
    open_objects--;
    pthread_mutex_unlock(&lock);
    return OK;
}
Result cuMemGetInfo_v2(size_t *out, size_t *total) {
    *out = left(0);
    *total = all_memory;
    return OK;
}
Result cuMemcpyAsync(Address to, Address from, size_t size, void *stream) {
    return copy(stream, (Step){.to = to, .from = from, .size = size, .rows = 1});
}
Result cuMemcpyHtoDAsync_v2(Address to, void *from, size_t size, void *stream) {
    return cuMemcpyAsync(to, (Address)from, size, stream);
}
Result cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
    return cuMemcpyAsync((Address)to, from, size, stream);
}
Result cuMemsetD8Async(Address to, unsigned char value, size_t size, void *stream) {
    if (!memory_of(to)) return INVALID_VALUE;
    return queue(stream, (Step){.kind = 1, .to = to, .value = value, .size = size});
}
typedef struct {
    size_t from_x, from_y; int from_kind; void *from_host; Address from_device; void *from_array; size_t from_pitch;
    size_t to_x, to_y; int to_kind; void *to_host; Address to_device; void *to_array; size_t to_pitch;
    size_t width, height;
} Copy2D;
Result cuMemcpy2DAsync_v2(const Copy2D *c, void *stream) {
    if (c->from_kind != 4 || c->to_kind != 4 || c->from_x || c->from_y || c->to_x || c->to_y) return NOT_SUPPORTED;
    return copy(stream, (Step){.to = c->to_device, .from = c->from_device, .size = c->width, .rows = c->height,
                               .to_pitch = c->to_pitch, .from_pitch = c->from_pitch});
}
static Result attribute(void *out, int which, Address address) {
    Memory *found = memory_of(address);
    if (!found) return INVALID_VALUE;
    if (which == 2) *(unsigned *)out = found->pinned ? 1 : 2; /* kind of memory: host or device */
    else if (which == 9 || which == 8) *(int *)out = 0; /* the number of the GPU; whether it is managed memory */
    else return NOT_SUPPORTED;
    return OK;
}
Result cuPointerGetAttribute(void *out, int which, Address address) { return attribute(out, which, address); }
Result cuPointerGetAttributes(unsigned count, int *which, void **out, Address address) {
    for (unsigned i = 0; i < count; i++) {
        memset(out[i], 0, sizeof(int));
        attribute(out[i], which[i], address);
    }
    return OK;
}

/* Memory pools: only their names. */
static char pool;
Result cuDeviceGetMemPool(void **out, int device) { *out = &pool; return OK; }
Result cuDeviceGetDefaultMemPool(void **out, int device) { *out = &pool; return OK; }
Result cuMemGetDefaultMemPool(void **out, void *where, int kind) { *out = &pool; return OK; }
Result cuMemGetMemPool(void **out, void *where, int kind) { *out = &pool; return OK; }
Result cuMemPoolGetAttribute(void *from, int which, void *out) { *(uint64_t *)out = 0; return OK; }
Result cuMemPoolSetAttribute(void *to, int which, void *value) { return OK; }

/* Kernels. */
typedef struct { char *image; size_t size; } Module;
Result cuModuleLoadData(void **out, const void *image) {
    if (memcmp(image, "\x7f" "ELF", 4)) return INVALID_IMAGE;
    const uint64_t *header = image; /* ELF64: the section headers come last */
    size_t size = header[5] + (size_t)((const uint16_t *)image)[29] * ((const uint16_t *)image)[30];
    Module *made = malloc(sizeof(Module));
    *made = (Module){malloc(size), size};
    memcpy(made->image, image, size);
    loads++;
    *out = made;
    return OK;
}
Result cuModuleGetFunction(void **out, Module *module, const char *name) {
    size_t length = strlen(name) + 1;
    if (!memmem(module->image, module->size, name, length)) return NOT_FOUND;
    *out = strdup(name);
    return OK;
}
Result cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void *stream, void **arguments, void **extra) {
    Step step = {.kind = 2, .kernel = function, .grid = {gx, gy, gz}, .block = {bx, by, bz}};
    if (extra || bx * by * bz > 1024 || !gx || !gy || !gz) return INVALID_VALUE;
    memcpy(step.arguments, arguments[0], LARGEST_ARGUMENTS); /* a launch copies its arguments at once */
    return queue(stream, step);
}
Result cuLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
    return queue(stream, (Step){.kind = 3, .function = function, .data = data});
}

/* Recordings. */
Result cuStreamBeginCapture_v2(void *stream, int mode) {
    if (captured) return CAPTURE_UNSUPPORTED;
    captured = calloc(1, sizeof(Steps));
    captured_stream = stream;
    is_spoiled = 0;
    return OK;
}
Result cuStreamEndCapture(void *stream, void **out) {
    if (!captured || captured_stream != stream) return INVALID_VALUE;
    *out = is_spoiled ? NULL : captured;
    if (is_spoiled) { free(captured->items); free(captured); }
    else open_objects++;
    captured = NULL;
    return is_spoiled ? CAPTURE_INVALIDATED : OK;
}
Result cuGraphInstantiateWithFlags(void **out, const Steps *graph, unsigned long long flags) {
    Steps *made = calloc(1, sizeof(Steps));
    for (size_t i = 0; i < graph->count; i++) append(made, &graph->items[i]);
    open_objects++;
    *out = made;
    return OK;
}
Result cuGraphDestroy(Steps *graph) { free(graph->items); free(graph); open_objects--; return OK; }
Result cuGraphExecDestroy(Steps *graph) { flush(); return cuGraphDestroy(graph); }
Result cuGraphLaunch(Steps *graph, void *stream) { return queue(stream, (Step){.kind = 4, .recording = graph}); }
Result cuStreamIsCapturing(void *stream, int *out) { *out = captured && captured_stream == stream; return OK; }

/* Streams and events. */
Result cuStreamCreateWithPriority(void **out, unsigned flags, int priority) {
    if (!current) return INVALID_CONTEXT;
    *out = malloc(8);
    open_objects++;
    return OK;
}
Result cuStreamCreate(void **out, unsigned flags) { return cuStreamCreateWithPriority(out, flags, 0); }
Result cuStreamDestroy_v2(void *stream) { free(stream); open_objects--; return OK; }
Result cuStreamSynchronize(void *stream) {
    if (captured && captured_stream == stream) { spoils(); return CAPTURE_UNSUPPORTED; }
    flush();
    return OK;
}
Result cuStreamQuery(void *stream) { return queued.count ? NOT_READY : OK; }
Result cuStreamGetCtx(void *stream, void **out) { *out = &primary; return OK; }
Result cuStreamGetCtx_v2(void *stream, void **out, void **green) { *out = &primary; *green = NULL; return OK; }
Result cuStreamGetFlags(void *stream, unsigned *out) { *out = 1; return OK; }
Result cuStreamGetPriority(void *stream, int *out) { *out = 0; return OK; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return OK; } /* one queue keeps the order */
Result cuEventCreate(void **out, unsigned flags) { *out = malloc(8); open_objects++; return OK; }
Result cuEventCreateWithFlags(void **out, unsigned flags) { return cuEventCreate(out, flags); }
Result cuEventRecord(void *event, void *stream) { return OK; }
Result cuEventSynchronize(void *event) { flush(); return OK; }
Result cuEventQuery(void *event) { return queued.count ? NOT_READY : OK; }
Result cuEventElapsedTime_v2(float *out, void *first, void *last) { *out = 2.5f; return OK; }
Result cuEventElapsedTime(float *out, void *first, void *last) { return cuEventElapsedTime_v2(out, first, last); }
Result cuEventDestroy_v2(void *event) { free(event); open_objects--; return OK; }

/* The GPU and its contexts. */
Result cuInit(unsigned flags) { return OK; }
Result cuDriverGetVersion(int *out) { *out = version; return OK; }
Result cuDeviceGetCount(int *out) { *out = 1; return OK; }
Result cuDeviceGet(int *out, int index) { *out = index; return index ? INVALID_DEVICE : OK; }
Result cuDeviceGetName(char *out, int size, int device) { snprintf(out, size, "NVIDIA Host"); return OK; }
Result cuDeviceTotalMem_v2(size_t *out, int device) { *out = all_memory; return OK; }
Result cuDeviceGetAttribute(int *out, int which, int device) {
    *out = which == 75 ? 8 : which == 76 ? 9 : which != 18; /* compute capability 8.9; all it can, and not integrated */
    return OK;
}
Result cuDevicePrimaryCtxRetain(void **out, int device) { *out = &primary; return OK; }
static unsigned context_flags;
unsigned host_context_flags(void) { return context_flags; }
Result cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) { context_flags = flags; return OK; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return OK; }
Result cuCtxGetCurrent(void **out) { *out = current; return OK; }
Result cuCtxSetCurrent(void *context) { current = context; return OK; }
Result cuCtxGetDevice(int *out) { *out = 0; return current ? OK : INVALID_CONTEXT; }
Result cuCtxGetStreamPriorityRange(int *least, int *most) { *least = 0; *most = -5; return OK; }

Result cuGetErrorName(int code, const char **out) {
    *out = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : code == INVALID_DEVICE ? "CUDA_ERROR_INVALID_DEVICE"
           : "CUDA_ERROR_UNKNOWN";
    return OK;
}
Result cuGetErrorString(int code, const char **out) { *out = "an error"; return OK; }

Result cuGetExportTable(const void **out, const void *id) { *out = NULL; return NOT_FOUND; } /* NVRTC asks for it */

static Result unsupported(void) { return NOT_SUPPORTED; }
Result cuGetProcAddress_v2(const char *name, void **out, int wanted, uint64_t flags, int *status) {
    static const char *const endings[] = {"_v2", "WithFlags", ""};
    Dl_info own;
    dladdr((void *)cuInit, &own);
    void *library = dlopen(own.dli_fname, RTLD_NOW | RTLD_NOLOAD), *found = NULL;
    for (int i = 0; i < 3 && !found; i++) {
        char full[200];
        snprintf(full, sizeof full, "%s%s", name, endings[i]);
        found = dlsym(library, full);
    }
    if (!found && getenv("HOST_CUDA_MISSING")) fprintf(stderr, "libcuda: no %s\n", name);
    *out = found ? found : (void *)unsupported;
    if (status) *status = 0;
    return OK;
}
Result cuGetProcAddress(const char *name, void **out, int wanted, uint64_t flags) {
    return cuGetProcAddress_v2(name, out, wanted, flags, NULL);
}
