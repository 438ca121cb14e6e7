/* What model.c, which is generated, and driver.c have in common. */
#include <stddef.h>
#include <stdint.h>

#define EDGEC_ABI 1

typedef struct { /* DLTensor of dlpack.h */
  void *data;
  int32_t device_type, device;
  int32_t ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} DLTensor;

typedef struct { /* TVMFFIAny */
  int32_t type_index;
  uint32_t zero;
  void *pointer;
} Any;

typedef int (*Kernel)(void *self, Any *arguments, int32_t count, Any *result);

enum Place { IN_ARENA, IN_WEIGHTS, IN_INPUT, IN_OUTPUT };

typedef struct {
  enum Place place;
  uint64_t offset; /* bytes; of inputs and outputs: which one */
  int32_t ndim;
  uint8_t code, bits; /* DLDataType */
  const int64_t *shape, *strides;
} Argument;

typedef struct {
  Kernel kernel; /* NULL: copy the first argument to the second */
  Kernel spread; /* the same kernel for several threads, where that pays; else NULL */
  int32_t count;
  uint64_t bytes;
} Step;

extern const char model_tensors[];
extern const uint64_t model_arena; /* bytes */
extern const unsigned char model_weights[];
extern const Argument model_arguments[];
extern const int32_t model_argument_count;
extern const Step model_steps[];
extern const int32_t model_step_count;
extern const int32_t model_parallel; /* whether any kernel starts threads */
