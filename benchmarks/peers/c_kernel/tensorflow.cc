// Two operations, registered through TensorFlow's C API alone.
#include "attention.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

struct Attributes {
  unsigned char causal;
  float scale;
};

static void* create(TF_OpKernelConstruction* context) {
  Attributes* attributes = new Attributes;
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrBool(context, "causal", &attributes->causal,
                                      status);
  TF_OpKernelConstruction_GetAttrFloat(context, "scale", &attributes->scale,
                                       status);
  TF_DeleteStatus(status);
  return attributes;
}

static void destroy(void* attributes) { delete (Attributes*)attributes; }

// The tensors of one call, given back at its end.
struct Call {
  TF_OpKernelContext* context;
  TF_Status* status = TF_NewStatus();
  TF_Tensor* tensors[9];
  int count = 0;

  explicit Call(TF_OpKernelContext* context, int inputs) : context(context) {
    for (; count < inputs; count++)
      TF_GetInput(context, count, &tensors[count], status);
  }
  ~Call() {
    for (int i = 0; i < count; i++) TF_DeleteTensor(tensors[i]);
    TF_DeleteStatus(status);
  }
  float* data(int i) { return (float*)TF_TensorData(tensors[i]); }
  int64_t size(int i, int axis) { return TF_Dim(tensors[i], axis); }
  float* add_output(int number, const int64_t* shape, int rank) {
    size_t bytes = sizeof(float);
    for (int i = 0; i < rank; i++) bytes *= shape[i];
    tensors[count] = TF_AllocateOutput(context, number, TF_FLOAT, shape, rank,
                                       bytes, status);
    return data(count++);
  }
  float* add_output_like(int number, int input) {
    int64_t shape[4];
    for (int i = 0; i < 4; i++) shape[i] = size(input, i);
    return add_output(number, shape, 4);
  }
  attention::Sizes sizes(void* attributes) {
    auto [causal, scale] = *(Attributes*)attributes;
    return {size(0, 0), size(0, 1), size(1, 1), size(0, 2), causal != 0, scale};
  }
};

static void forward(void* attributes, TF_OpKernelContext* context) {
  Call call(context, 3);
  const int64_t shape[3] = {call.size(0, 0), call.size(0, 2), call.size(0, 1)};
  float* output = call.add_output_like(0, 0);
  float* logsumexp = call.add_output(1, shape, 3);
  attention::forward(call.sizes(attributes), call.data(0), call.data(1),
                     call.data(2), output, logsumexp);
}

static void backward(void* attributes, TF_OpKernelContext* context) {
  Call call(context, 6);
  float* to_query = call.add_output_like(0, 0);
  float* to_key = call.add_output_like(1, 1);
  float* to_value = call.add_output_like(2, 2);
  attention::backward(call.sizes(attributes), call.data(0), call.data(1),
                      call.data(2), call.data(3), call.data(4), call.data(5),
                      to_query, to_key, to_value);
}

static void unknown_shapes(TF_ShapeInferenceContext* context,
                           TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

static void add(const char* name, const char* const* inputs,
                const char* const* outputs,
                void (*compute)(void*, TF_OpKernelContext*)) {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* operation = TF_NewOpDefinitionBuilder(name);
  for (; *inputs; inputs++) TF_OpDefinitionBuilderAddInput(operation, *inputs);
  for (; *outputs; outputs++)
    TF_OpDefinitionBuilderAddOutput(operation, *outputs);
  TF_OpDefinitionBuilderAddAttr(operation, "causal: bool");
  TF_OpDefinitionBuilderAddAttr(operation, "scale: float");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(operation, unknown_shapes);
  TF_RegisterOpDefinition(operation, status);
  TF_RegisterKernelBuilder(
      name, TF_NewKernelBuilder(name, "CPU", create, compute, destroy), status);
  TF_DeleteStatus(status);
}

__attribute__((constructor)) static void add_operations() {
  const char* const inputs[] = {"query: float", "key: float", "value: float",
                                nullptr};
  const char* const outputs[] = {"output: float", "logsumexp: float", nullptr};
  add("KernelAttention", inputs, outputs, forward);
  const char* const all_inputs[] = {
      "query: float",    "key: float",       "value: float", "output: float",
      "upstream: float", "logsumexp: float", nullptr};
  const char* const gradients[] = {"to_query: float", "to_key: float",
                                   "to_value: float", nullptr};
  add("KernelAttentionGradient", all_inputs, gradients, backward);
}
