# Fuzz targets: target_x.c is a program fuzz_x that replays tests/fuzz/seeds/x.txt with mutations of
# every seed, a test of label `fuzz`. With LORS_FUZZ (clang), libfuzzer_x is the same target with
# libFuzzer: tests/fuzz/run.sh.
set(fuzz_here ${CMAKE_CURRENT_LIST_DIR})
add_library(lors_fuzz_common STATIC ${fuzz_here}/fuzz_files.c ${fuzz_here}/fuzz_mutate.c
            ${fuzz_here}/st_json_tree.c ${fuzz_here}/st_reference.c ${fuzz_here}/merge_models.c)
target_link_libraries(lors_fuzz_common PUBLIC lors_inside)

# lors_fuzz_target(NAME MUTATIONS): so many mutations of each seed take a second or two.
function(lors_fuzz_target name mutations)
    add_executable(fuzz_${name} ${fuzz_here}/target_${name}.c ${fuzz_here}/replay.c)
    target_link_libraries(fuzz_${name} PRIVATE lors_fuzz_common)
    add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${fuzz_here}/seeds/${name}.txt ${mutations})
    lors_test_properties(fuzz_${name} fuzz)
    if(LORS_FUZZ)
        add_executable(libfuzzer_${name} EXCLUDE_FROM_ALL ${fuzz_here}/target_${name}.c
                                                          ${fuzz_here}/fuzz_custom.c)
        target_link_libraries(libfuzzer_${name} PRIVATE lors_fuzz_common)
        target_link_options(libfuzzer_${name} PRIVATE -fsanitize=fuzzer)
    endif()
endfunction()

lors_fuzz_target(st_header 300)
lors_fuzz_target(index 300)
lors_fuzz_target(recipe 300)
lors_fuzz_target(side_json 300)
lors_fuzz_target(plan 300)
lors_fuzz_target(whole_merge 4)
