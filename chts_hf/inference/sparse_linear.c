/* y = x W^T + b with a sparse W in the order of blocks.py, on a CPU.
 *
 * The rows of x are packed, up to 32 at a time, into columns that lie side by side: then one link
 * is one load of its weight, one vector load from the column of its input, and one fused
 * multiply-add for all of them. What bounds that is where the columns are read from, so links come
 * in groups whose COLUMNS columns stay in a core's nearest cache; and, as a group has few links in
 * each row, the branch at a row's end, which rows sorted by their number of links make foreseeable.
 */
#include <stdint.h>
#include <string.h>

typedef float v8 __attribute__((vector_size(32), aligned(4)));
typedef float v4 __attribute__((vector_size(16), aligned(4)));

/* As in blocks.py. */
#define ROWS 128
#define COLUMNS 256
/* Outputs are written so many rows at a time, so that y, which is row-major, is written in runs. */
#define RUN 8
/* Products smaller than this are done before a second thread has woken up. */
#define PARALLEL_FROM 20000

typedef struct {
  const int32_t *group;  /* the segments of each group */
  const int32_t *start;  /* the links of each segment */
  const uint8_t *row;    /* of each segment, from the group's first */
  const uint8_t *column; /* of each link, from the group's first */
  const float *value;
} links;

#define DEFINE_ROWS(NAME, VEC, LANES, VECTORS, CHAINS)                                             \
  static void NAME(const links *w, const float *bias, const float *packed, float *y,               \
                   int64_t first, int64_t in, int64_t out, int64_t tokens) {                       \
    enum { WIDTH = LANES * VECTORS };                                                              \
    float sums[ROWS][WIDTH];                                                                       \
    const int64_t rows = out - first < ROWS ? out - first : ROWS;                                  \
    const int64_t blocks = (in + COLUMNS - 1) / COLUMNS;                                           \
    const int32_t *group = w->group + first / ROWS * blocks;                                       \
    for (int64_t r = 0; r < rows; r++)                                                             \
      for (int64_t t = 0; t < WIDTH; t++) sums[r][t] = bias ? bias[first + r] : 0.0f;              \
    for (int64_t b = 0; b < blocks; b++, packed += COLUMNS * WIDTH)                                \
      for (int64_t s = group[b]; s < group[b + 1]; s++) {                                          \
        VEC *total = (VEC *)sums[w->row[s]], sum[CHAINS][VECTORS];                                 \
        memset(sum, 0, sizeof sum);                                                                \
        int64_t p = w->start[s];                                                                   \
        const int64_t end = w->start[s + 1];                                                       \
        for (; p + CHAINS <= end; p += CHAINS)                                                     \
          for (int c = 0; c < CHAINS; c++) {                                                       \
            const VEC *x = (const VEC *)(packed + (int64_t)w->column[p + c] * WIDTH);              \
            for (int v = 0; v < VECTORS; v++) sum[c][v] += w->value[p + c] * x[v];                 \
          }                                                                                        \
        for (; p < end; p++) {                                                                     \
          const VEC *x = (const VEC *)(packed + (int64_t)w->column[p] * WIDTH);                    \
          for (int v = 0; v < VECTORS; v++) sum[0][v] += w->value[p] * x[v];                       \
        }                                                                                          \
        for (int v = 0; v < VECTORS; v++) {                                                        \
          for (int c = 1; c < CHAINS; c++) sum[0][v] += sum[c][v];                                 \
          total[v] += sum[0][v];                                                                   \
        }                                                                                          \
      }                                                                                            \
    for (int64_t r = 0; r < rows; r += RUN)                                                        \
      for (int64_t t = 0; t < tokens; t++)                                                         \
        for (int64_t i = r; i < rows && i < r + RUN; i++) y[t * out + first + i] = sums[i][t];     \
  }

DEFINE_ROWS(rows_of_4, v4, 4, 1, 4)
DEFINE_ROWS(rows_of_8, v8, 8, 1, 4)
DEFINE_ROWS(rows_of_16, v8, 8, 2, 2)
DEFINE_ROWS(rows_of_32, v8, 8, 4, 2)

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
void sparse_linear(const int32_t *group, const int32_t *start, const uint8_t *row,
                   const uint8_t *column, const float *value, const float *bias, const float *x,
                   float *y, float *packed, int64_t count, int64_t tokens, int64_t in,
                   int64_t out) {
  const links w = {group, start, row, column, value};
  for (int64_t t = 0; t < tokens;) {
    const int64_t left = tokens - t;
    const int64_t width = left > 16 ? 32 : left > 8 ? 16 : left > 4 ? 8 : 4;
    const int64_t taken = left < width ? left : width;
    const int parallel = (count / 4 + in) * width > PARALLEL_FROM;
    (void)parallel;
    _Pragma("omp parallel for if (parallel)")
    for (int64_t i = 0; i < in; i += PACK) pack(x + t * in, packed, i, in, taken, width);
    _Pragma("omp parallel for schedule(dynamic) if (parallel)")
    for (int64_t r = 0; r < out; r += ROWS)
      (width == 32   ? rows_of_32
       : width == 16 ? rows_of_16
       : width == 8  ? rows_of_8
                     : rows_of_4)(&w, bias, packed, y + t * out, r, in, out, taken);
    t += taken;
  }
}
