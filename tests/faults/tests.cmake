# Fault loops: one small merge with one thing going wrong, at every point where it can. A test tries
# every so many points; all of them: tests/faults/run.sh.
set(faults_here ${CMAKE_CURRENT_LIST_DIR})
file(GLOB sources CONFIGURE_DEPENDS ${faults_here}/*.c)
list(FILTER sources EXCLUDE REGEX "/heap\\.c$")
add_executable(fault_loops ${sources} ${CMAKE_CURRENT_SOURCE_DIR}/run/run_models.c)
target_include_directories(fault_loops PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/run)
target_link_libraries(fault_loops PRIVATE lors_inside)

# lors_fault_loop(PART STRIDE [FURTHER OPTIONS])
function(lors_fault_loop part stride)
    add_test(NAME faults_${part} COMMAND fault_loops ${part} --stride ${stride} ${ARGN})
    lors_test_properties(faults_${part} faults)
endfunction()

lors_fault_loop(memory 11)
lors_fault_loop(files 7)
lors_fault_loop(kill 2)
lors_fault_loop(power 5)

# All allocations of the program, by a library that is preloaded; sanitizers have their own.
if(NOT LORS_SANITIZE AND TARGET lors)
    find_package(Python3 COMPONENTS Interpreter QUIET)
    add_library(fault_heap MODULE ${faults_here}/heap.c)
    set_target_properties(fault_heap PROPERTIES PREFIX "")
    if(Python3_FOUND)
        add_test(NAME faults_heap COMMAND Python3::Interpreter ${faults_here}/heap.py
                                          $<TARGET_FILE:lors> $<TARGET_FILE:fault_heap>
                                          --stride 97)
        lors_test_properties(faults_heap faults)
    endif()
endif()
