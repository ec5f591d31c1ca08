# Fault loops: one small merge with one thing going wrong, at every point where it can. A test tries
# every so many points; all of them: tests/faults/run.sh.
set(faults_here ${CMAKE_CURRENT_LIST_DIR})
file(GLOB sources CONFIGURE_DEPENDS ${faults_here}/*.c)
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
