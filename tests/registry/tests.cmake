# The registry of backends, in processes of its own, with libraries that are not CUDA's.
set(registry_here ${CMAKE_CURRENT_LIST_DIR})
add_library(registry_library MODULE ${registry_here}/library.c)
set_target_properties(registry_library PROPERTIES PREFIX "")
target_include_directories(registry_library PRIVATE ${all_rooms})
add_executable(test_registry ${registry_here}/test_registry.c)
target_link_libraries(test_registry PRIVATE lors_inside PkgConfig::LORS_CMOCKA)
target_compile_definitions(test_registry PRIVATE FAKE_LIBRARY="$<TARGET_FILE:registry_library>"
                           LORS_LIBDIR="${CMAKE_INSTALL_LIBDIR}")
add_dependencies(test_registry registry_library)
add_test(NAME test_registry COMMAND test_registry)
lors_test_properties(test_registry unit)
