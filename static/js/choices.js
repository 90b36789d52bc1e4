/* Fields that only some choices need: [data-for] lists the values of the form's choice (data-choices) that show it. */
for (const form of document.querySelectorAll("form[data-choices]")) {
  const choice = form.elements[form.dataset.choices];
  const show = () => {
    for (const part of form.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(choice.value);
  };
  choice.addEventListener("change", show);
  show();
}
