/* The part of a payload that is the same for all models: memory, threads, and the calls of its kernels in order.
 *
 * A payload needs nothing of TVM at run time: what its kernels call of TVM's runtime (starting threads, scratch memory,
 * raising an error) is here, and the order of calls is a table (model.c) instead of a virtual machine. Its interface,
 * edgec_tvm_*, has plain C types; a change of it is a new EDGEC_ABI. Structures are those of dlpack.h and of
 * tvm_ffi/c_api.h (TVMFFIAny), whose sizes are fixed by TVM's calling convention.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

#define EXPORT __attribute__((visibility("default")))
#define ALIGNMENT 64 /* bytes: what TVM's kernels take for granted of each tensor (kAllocAlignment) */
#define SPINS 2000   /* looks at the next job before a worker sleeps: some microseconds */
#define MAX_THREADS 64

typedef struct {
  void *sync; /* TVM's barriers, which these kernels don't have */
  int32_t tasks;
} Group;

typedef int (*Lambda)(int task, Group *group, void *data);

typedef struct {
  pthread_t thread;
  struct Model *model;
  int task;
} Worker;

typedef struct Model {
  unsigned char *arena;
  DLTensor *tensors;
  Any *arguments;
  int threads; /* the caller's own among them */
  Worker workers[MAX_THREADS];
  pthread_mutex_t lock;
  pthread_cond_t wake;
  atomic_int number; /* of the job that workers shall do: it grows */
  atomic_int busy;
  atomic_int failed;
  int ending;
  Lambda lambda;
  void *data;
} Model;

static __thread Model *running; /* the model whose kernel this thread is in */
static __thread char words[512];

static void *allocate(size_t bytes) {
  void *memory = NULL;
  return posix_memalign(&memory, ALIGNMENT, bytes ? bytes : 1) ? NULL : memory;
}

/* What kernels call. The two pointers are what TVM's code generator declares and TVM's loader would set. */

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  size_t used = 0;
  words[0] = 0;
  for (int n = -1; n < count; n++) {
    const char *part = n < 0 ? kind : parts[n];
    for (const char *from = part ? part : ""; *from && used < sizeof words - 3; from++) words[used++] = *from;
    if (n < 0) words[used++] = ':', words[used++] = ' ';
    words[used] = 0;
  }
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *text) {
  TVMFFIErrorSetRaisedFromCStrParts(kind, &text, 1);
}

static void *workspace(int device_type, int device, uint64_t bytes, int code, int bits) {
  (void)device_type, (void)device, (void)code, (void)bits;
  return allocate(bytes);
}

static int give_back(int device_type, int device, void *memory) {
  (void)device_type, (void)device;
  free(memory);
  return 0;
}

static int launch(Lambda lambda, void *data, int tasks) {
  Model *model = running;
  Group group = {NULL, 1};
  (void)tasks; /* always 0: as many as there are threads */
  if (!model || model->threads == 1) return lambda(0, &group, data);
  group.tasks = model->threads;
  model->lambda = lambda;
  model->data = data;
  atomic_store(&model->failed, 0);
  atomic_store(&model->busy, model->threads - 1);
  pthread_mutex_lock(&model->lock);
  atomic_fetch_add(&model->number, 1);
  pthread_cond_broadcast(&model->wake);
  pthread_mutex_unlock(&model->lock);
  int status = lambda(0, &group, data);
  for (int looks = 0; atomic_load(&model->busy); looks++)
    if (looks >= SPINS) { /* a worker was put off its core: let it have this one */
      sched_yield();
      looks = 0;
    }
  return status ? status : atomic_load(&model->failed);
}

int (*__TVMBackendParallelLaunch)(Lambda, void *, int) = launch;
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = workspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = give_back;
void *__tvm_ffi__library_ctx = NULL;

static void *work(void *given) {
  Worker *self = given;
  Model *model = self->model;
  int done = 0;
  running = model;
  for (;;) {
    for (int looks = 0; looks < SPINS && atomic_load(&model->number) == done; looks++) {
    }
    pthread_mutex_lock(&model->lock);
    while (atomic_load(&model->number) == done) pthread_cond_wait(&model->wake, &model->lock);
    done = atomic_load(&model->number);
    int ending = model->ending;
    pthread_mutex_unlock(&model->lock);
    if (ending) return NULL;
    Group group = {NULL, model->threads};
    if (model->lambda(self->task, &group, model->data)) atomic_store(&model->failed, -1);
    atomic_fetch_sub(&model->busy, 1);
  }
}

/* The interface. */

EXPORT int edgec_tvm_abi(void) { return EDGEC_ABI; }

/* A line a tensor: "i" or "o", dtype, sizes joined by "x" ("-" for none), name. */
EXPORT const char *edgec_tvm_tensors(void) { return model_tensors; }

EXPORT const char *edgec_tvm_error(void) { return words; }

EXPORT void edgec_tvm_close(void *handle) {
  Model *model = handle;
  if (!model) return;
  if (model->threads > 1) {
    pthread_mutex_lock(&model->lock);
    model->ending = 1;
    atomic_fetch_add(&model->number, 1);
    pthread_cond_broadcast(&model->wake);
    pthread_mutex_unlock(&model->lock);
    for (int n = 1; n < model->threads; n++) pthread_join(model->workers[n].thread, NULL);
  }
  pthread_mutex_destroy(&model->lock);
  pthread_cond_destroy(&model->wake);
  free(model->arguments);
  free(model->tensors);
  free(model->arena);
  free(model);
}

/* Memory for one run at a time, and threads - 1 workers, or fewer where the system gives no more. NULL: no memory. */
EXPORT void *edgec_tvm_open(int threads) {
  Model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  pthread_mutex_init(&model->lock, NULL);
  pthread_cond_init(&model->wake, NULL);
  model->threads = 1;
  model->arena = allocate(model_arena);
  model->tensors = calloc(model_argument_count + 1, sizeof *model->tensors);
  model->arguments = calloc(model_argument_count + 1, sizeof *model->arguments);
  if (!model->arena || !model->tensors || !model->arguments) {
    edgec_tvm_close(model);
    return NULL;
  }
  for (int n = 0; n < model_argument_count; n++) {
    const Argument *about = &model_arguments[n];
    DLTensor *tensor = &model->tensors[n];
    tensor->device_type = 1; /* kDLCPU */
    tensor->ndim = about->ndim;
    tensor->shape = (int64_t *)about->shape;
    tensor->strides = (int64_t *)about->strides;
    tensor->code = about->code;
    tensor->bits = about->bits;
    tensor->lanes = 1;
    if (about->place == IN_ARENA) tensor->data = model->arena + about->offset;
    if (about->place == IN_WEIGHTS) tensor->data = (void *)(model_weights + about->offset);
    model->arguments[n].type_index = 7; /* kTVMFFIDLTensorPtr */
    model->arguments[n].pointer = tensor;
  }
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (model_parallel)
    for (int n = 1; n < threads; n++) {
      model->workers[n].model = model;
      model->workers[n].task = n;
      if (pthread_create(&model->workers[n].thread, NULL, work, &model->workers[n])) break;
      model->threads = n + 1;
    }
  return model;
}

/* One step alone, on whatever is in memory: to measure a kernel. Its arguments are in the arena or the weights. */
EXPORT int edgec_tvm_step(void *handle, int place) {
  Model *model = handle;
  Any *arguments = model->arguments;
  Any result = {0, 0, NULL};
  for (int n = 0; n < place; n++) arguments += model_steps[n].count;
  running = model;
  int status = model_steps[place].kernel(NULL, arguments, model_steps[place].count, &result);
  running = NULL;
  return status;
}

/* 0, or edgec_tvm_error tells (in this thread) what is wrong. Each pointer is aligned to 64 bytes. */
EXPORT int edgec_tvm_run(void *handle, void **inputs, void **outputs) {
  Model *model = handle;
  int status = 0;
  words[0] = 0;
  running = model;
  for (int n = 0; n < model_argument_count; n++) {
    const Argument *about = &model_arguments[n];
    if (about->place == IN_INPUT) model->tensors[n].data = inputs[about->offset];
    if (about->place == IN_OUTPUT) model->tensors[n].data = outputs[about->offset];
  }
  Any *arguments = model->arguments;
  for (int n = 0; n < model_step_count && !status; n++) {
    const Step *step = &model_steps[n];
    if (step->kernel) {
      Any result = {0, 0, NULL};
      Kernel kernel = step->spread && model->threads > 1 ? step->spread : step->kernel;
      status = kernel(NULL, arguments, step->count, &result);
    } else {
      DLTensor *to = arguments[1].pointer;
      memcpy(to->data, ((DLTensor *)arguments[0].pointer)->data, step->bytes);
    }
    arguments += step->count;
  }
  running = NULL;
  return status;
}
