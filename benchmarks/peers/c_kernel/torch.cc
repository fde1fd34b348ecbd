// Plain functions, called through ctypes.
#include "attention.h"

using attention::Sizes;

extern "C" void attention_forward(const Sizes* sizes, const float* query,
                                  const float* key, const float* value,
                                  float* output, float* logsumexp) {
  attention::forward(*sizes, query, key, value, output, logsumexp);
}

extern "C" void attention_backward(const Sizes* sizes, const float* query,
                                   const float* key, const float* value,
                                   const float* output, const float* upstream,
                                   const float* logsumexp, float* to_query,
                                   float* to_key, float* to_value) {
  attention::backward(*sizes, query, key, value, output, upstream, logsumexp,
                      to_query, to_key, to_value);
}
