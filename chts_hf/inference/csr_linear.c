/* y = x W^T + b with W in compressed sparse rows, on a CPU.
 *
 * The rows of x are packed, up to 32 at a time, into columns that lie side by side: then one link
 * is one load of its weight, one vector load from the column of its input, and one fused
 * multiply-add for all of them. A row of W accumulates in registers. Outputs are collected eight
 * rows of W at a time, so that y, which is row-major, is written in runs.
 */
#include <stdint.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32), aligned(4)));
typedef float v4 __attribute__((vector_size(16), aligned(4)));

#define TILE 8
/* Products smaller than this are done before a second thread has woken up. */
#define PARALLEL_FROM 20000

#define DEFINE_TILE(NAME, INDEX, VEC, LANES, VECTORS, CHAINS)                                      \
  static void NAME(const int32_t *start, const INDEX *column, const float *value,                  \
                   const float *bias, const float *packed, float *y, int64_t first, int64_t rows,  \
                   int64_t out, int64_t tokens) {                                                  \
    enum { WIDTH = LANES * VECTORS };                                                              \
    float tile[TILE][WIDTH];                                                                       \
    for (int64_t r = 0; r < rows; r++) {                                                           \
      VEC sum[CHAINS][VECTORS];                                                                    \
      memset(sum, 0, sizeof sum);                                                                  \
      int64_t p = start[first + r];                                                                \
      const int64_t end = start[first + r + 1];                                                    \
      for (; p + CHAINS <= end; p += CHAINS)                                                       \
        for (int c = 0; c < CHAINS; c++) {                                                         \
          const VEC *x = (const VEC *)(packed + (int64_t)column[p + c] * WIDTH);                   \
          for (int v = 0; v < VECTORS; v++) sum[c][v] += value[p + c] * x[v];                      \
        }                                                                                          \
      for (; p < end; p++) {                                                                       \
        const VEC *x = (const VEC *)(packed + (int64_t)column[p] * WIDTH);                         \
        for (int v = 0; v < VECTORS; v++) sum[0][v] += value[p] * x[v];                            \
      }                                                                                            \
      const float offset = bias ? bias[first + r] : 0.0f;                                          \
      for (int v = 0; v < VECTORS; v++) {                                                          \
        for (int c = 1; c < CHAINS; c++) sum[0][v] += sum[c][v];                                   \
        sum[0][v] += offset;                                                                       \
      }                                                                                            \
      memcpy(tile[r], sum[0], sizeof tile[r]);                                                     \
    }                                                                                              \
    for (int64_t t = 0; t < tokens; t++)                                                           \
      for (int64_t r = 0; r < rows; r++) y[t * out + first + r] = tile[r][t];                      \
  }

/* Inputs are packed so many at a time: what is written then fits into a core's nearest cache. */
#define PACK 64

static void pack(const float *x, float *packed, int64_t first, int64_t in, int64_t tokens,
                 int64_t width) {
  const int64_t last = first + PACK < in ? first + PACK : in;
  for (int64_t t = 0; t < tokens; t++)
    for (int64_t i = first; i < last; i++) packed[i * width + t] = x[t * in + i];
  for (int64_t t = tokens; t < width; t++)
    for (int64_t i = first; i < last; i++) packed[i * width + t] = 0.0f;
}

/* `packed` is scratch of 32 * in floats. */
#define DEFINE_LINEAR(NAME, INDEX)                                                                 \
  DEFINE_TILE(NAME##_4, INDEX, v4, 4, 1, 8)                                                        \
  DEFINE_TILE(NAME##_8, INDEX, v8, 8, 1, 8)                                                        \
  DEFINE_TILE(NAME##_16, INDEX, v8, 8, 2, 4)                                                       \
  DEFINE_TILE(NAME##_32, INDEX, v8, 8, 4, 2)                                                       \
  void NAME(const int32_t *start, const INDEX *column, const float *value, const float *bias,      \
            const float *x, float *y, float *packed, int64_t tokens, int64_t in, int64_t out) {    \
    for (int64_t t = 0; t < tokens;) {                                                             \
      const int64_t left = tokens - t;                                                             \
      const int64_t width = left > 16 ? 32 : left > 8 ? 16 : left > 4 ? 8 : 4;                     \
      const int64_t taken = left < width ? left : width;                                           \
      const int parallel = (start[out] / 4 + in) * width > PARALLEL_FROM;                          \
      (void)parallel;                                                                              \
      _Pragma("omp parallel for if (parallel)")                                                    \
      for (int64_t i = 0; i < in; i += PACK) pack(x + t * in, packed, i, in, taken, width);        \
      _Pragma("omp parallel for schedule(guided) if (parallel)")                                   \
      for (int64_t r = 0; r < out; r += TILE) {                                                    \
        const int64_t rows = out - r < TILE ? out - r : TILE;                                      \
        (width == 32   ? NAME##_32                                                                 \
         : width == 16 ? NAME##_16                                                                 \
         : width == 8  ? NAME##_8                                                                  \
                       : NAME##_4)(start, column, value, bias, packed, y + t * out, r, rows, out,  \
                                   taken);                                                         \
      }                                                                                            \
      t += taken;                                                                                  \
    }                                                                                              \
  }

DEFINE_LINEAR(csr_linear_u16, uint16_t)
DEFINE_LINEAR(csr_linear_i32, int32_t)
