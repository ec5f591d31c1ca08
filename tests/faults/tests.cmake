# Fault loops: one small merge with one thing going wrong, at every point where it can. A test tries
# every so many points; all of them: tests/faults/run.sh.
set(faults_here ${CMAKE_CURRENT_LIST_DIR})
file(GLOB sources CONFIGURE_DEPENDS ${faults_here}/*.c)
list(FILTER sources EXCLUDE REGEX "/(heap|library)\\.c$")
add_executable(fault_loops ${sources} ${CMAKE_CURRENT_SOURCE_DIR}/run/run_models.c)
target_include_directories(fault_loops PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/run)
target_link_libraries(fault_loops PRIVATE lors_inside)

# The device of the part `ops` comes out of a library, which asks the program for its table.
add_library(fault_device MODULE ${faults_here}/library.c)
set_target_properties(fault_device PROPERTIES PREFIX "")
target_include_directories(fault_device PRIVATE ${all_rooms})
target_link_libraries(fault_device PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(fault_loops PROPERTIES ENABLE_EXPORTS ON)
target_compile_definitions(fault_loops PRIVATE FAULT_DEVICE="$<TARGET_FILE:fault_device>")
add_dependencies(fault_loops fault_device)

# lors_fault_loop(PART STRIDE [FURTHER OPTIONS])
function(lors_fault_loop part stride)
    add_test(NAME faults_${part} COMMAND fault_loops ${part} --stride ${stride} ${ARGN})
    lors_test_properties(faults_${part} faults)
endfunction()

lors_fault_loop(memory 11)
lors_fault_loop(ops 101)
lors_fault_loop(files 7)
lors_fault_loop(kill 2)
lors_fault_loop(power 5)

# All allocations of the program, by a library that is preloaded; sanitizers have their own.
if(NOT LORS_SANITIZE AND TARGET lors)
    find_package(Python3 COMPONENTS Interpreter QUIET)
    add_library(fault_heap MODULE ${faults_here}/heap.c)
    set_target_properties(fault_heap PROPERTIES PREFIX "")
    target_link_libraries(fault_heap PRIVATE ${CMAKE_DL_LIBS})
    if(Python3_FOUND)
        add_test(NAME faults_heap COMMAND Python3::Interpreter ${faults_here}/heap.py
                                          $<TARGET_FILE:lors> $<TARGET_FILE:fault_heap>
                                          --stride 97)
        lors_test_properties(faults_heap faults)
    endif()
endif()
