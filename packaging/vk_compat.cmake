# For build_llama.sh: the compatibility header for the Vulkan backend alone, once its target is there.
function(nexus_vk_compat)
  if(TARGET ggml-vulkan)
    target_compile_options(ggml-vulkan PRIVATE -include "${NEXUS_VK_COMPAT}")
  endif()
endfunction()
if(PROJECT_IS_TOP_LEVEL)
  cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL nexus_vk_compat)
endif()
