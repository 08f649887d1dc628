// The filters of the museum's table: one list for each column that has few values, and a field for words.
const table = document.getElementById("museum");
if (table) {
  const rows = [...table.tBodies[0].rows];
  const form = document.createElement("form");
  form.className = "museum-filters";
  form.setAttribute("role", "search");
  const lists = [1, 2, 4].map((column) => {
    const label = document.createElement("label");
    label.textContent = table.tHead.rows[0].cells[column].textContent;
    const list = label.appendChild(document.createElement("select"));
    list.add(new Option("all", ""));
    [...new Set(rows.map((row) => row.cells[column].textContent))].forEach((text) => list.add(new Option(text)));
    form.append(label);
    return [column, list];
  });
  const label = document.createElement("label");
  label.textContent = "words";
  const words = label.appendChild(document.createElement("input"));
  words.type = "search";
  const count = document.createElement("output");
  form.append(label, count);
  const show = () => {
    const wanted = words.value.toLowerCase();
    rows.forEach((row) => {
      row.hidden =
        !row.textContent.toLowerCase().includes(wanted) ||
        lists.some(([column, list]) => list.value && row.cells[column].textContent !== list.value);
    });
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  table.before(form);
  show();
}

// A table that is wider than a phone scrolls by itself; the keyboard must be able to reach it.
document.querySelectorAll(".bd-article table").forEach((wide) => {
  if (wide.scrollWidth > wide.clientWidth) wide.tabIndex = 0;
});
