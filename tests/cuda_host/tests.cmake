# The CUDA backend over the stand-in runtime: liblors_cuda_host.so is made of the very files of
# cuda/, compiled by the host's C++ compiler. It exists for tests only and is never installed.
enable_language(CXX)
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)

file(GLOB standin CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*.cpp)
list(FILTER standin EXCLUDE REGEX "/selftest[^/]*\\.cpp$")
file(GLOB kernels CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cu)
set_source_files_properties(${kernels} PROPERTIES LANGUAGE CXX)
set(standin_include ${CMAKE_CURRENT_LIST_DIR}/include)

add_library(lors_standin OBJECT ${standin})
target_include_directories(lors_standin PUBLIC ${standin_include})
target_link_libraries(lors_standin PUBLIC PkgConfig::LORS_DEPS Threads::Threads)
# Two words of each thread, in the program's own block: LeakSanitizer (gcc 12) takes a block of a
# loaded library's that lies 16 bytes behind a page for one of old glibc's, and crashes.
target_compile_options(lors_standin PRIVATE -ftls-model=initial-exec)

add_library(lors_cuda_host MODULE ${kernels})
target_include_directories(lors_cuda_host PRIVATE ${PROJECT_SOURCE_DIR}/include ${LORS_CUDA_ROOMS})
target_compile_options(lors_cuda_host PRIVATE -O2 "SHELL:-x c++" -Wno-unknown-pragmas)
target_link_libraries(lors_cuda_host PRIVATE lors_standin)
# Fibers and handlers of the stand-in live as long as the program.
target_link_options(lors_cuda_host PRIVATE -Wl,-z,nodelete)

set(LORS_CUDA_HOST_ENVIRONMENT "LORS_CUDA_LIBRARY=$<TARGET_FILE:lors_cuda_host>"
    "LORS_TEST_DEVICE=cuda:0" "LORS_EMULATED=1" "LORS_STANDIN_SEED=1")
# Whole merges plan large blocks: a small device, and no protection of its memory from the host
# between operations, which costs by the page. Tests of single operations have it.
set(LORS_CUDA_HOST_MERGES ${LORS_CUDA_HOST_ENVIRONMENT} "LORS_STANDIN_MEMORY=400000000"
    "LORS_STANDIN_PROTECT=0")

# The stand-in itself: kernels, streams and library calls against plain code.
file(GLOB selftest CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/selftest*.cpp)
add_executable(standin_selftest ${selftest})
target_link_libraries(standin_selftest PRIVATE lors_standin)
add_test(NAME standin COMMAND standin_selftest)
lors_test_properties(standin cuda_host)
